// SPDX-License-Identifier: Apache-2.0
// Images that are based on others: restored, flattened, compared, and with another base than meant.
#include "migrate/image/image_chain.hpp"

#include "migrate/image/image_copy.hpp"
#include "migrate/image/image_difference.hpp"
#include "tests/support/image_bench.hpp"

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Gfn;
using formats::PageCount;
using tests::must;
using tests::pages_of;
using tests::range;

namespace {

/// A machine whose guest goes on between one image and the next, each based on the last.
struct ChainBench : tests::ImageBench {
    ImageOptions how{.chunk_pages = PageCount{16}};

    [[nodiscard]] std::filesystem::path path(int number) const {
        return directory.path() / fmt::format("{}.wimg", number);
    }
    [[nodiscard]] ImageChain chain(int number) const {
        return must(ImageChain::open(path(number), {.key = how.key}));
    }
    void write_first() {
        must(write_guest(
            machine, tests::description_of(ImageExtent::whole), no_pages(), path(0), how));
    }
    void write_next(int number) {
        auto base = chain(number - 1);
        must(write_guest(
            machine,
            tests::description_of(ImageExtent::whole),
            no_pages(),
            path(number),
            how,
            &base));
    }
    void set_page(std::uint64_t page, char letter) {
        must(machine.memory().write(formats::gpa_of(Gfn{page}), pages_of(letter, 1)));
    }
    /// Some pages that others had too, one that was zero, and one that becomes it.
    void go_on(int number) {
        const auto step = static_cast<std::uint64_t>(number);
        for (std::uint64_t page = 0; page < 4; ++page) {
            set_page(page * 7 + step, static_cast<char>('a' + number));
        }
        set_page(400 + step, static_cast<char>('A' + number));
        must(machine.memory().zero(range(100 + step, 1)));
    }
    [[nodiscard]] std::string memory_of(vmm::Machine& from) const {
        std::string text(formats::bytes_of(PageCount{512}).value(), '\0');
        must(from.memory().read(formats::gpa_of(Gfn{0}), std::as_writable_bytes(std::span{text})));
        return text;
    }
    template <typename Image>
    std::string restored(Image&& image) {
        tests::TestMachine other{options, witness};
        must(restore_guest(image, other, RestoredAs::new_vm));
        return memory_of(other);
    }
};

PageCount changed_pages(const std::string& before, const std::string& after) {
    PageCount changed;
    for (std::size_t at = 0; at < before.size(); at += formats::page_size) {
        changed += PageCount{
            before.compare(at, formats::page_size, after, at, formats::page_size) == 0 ? 0U : 1U};
    }
    return changed;
}

std::string refusal_of(const formats::Result<ImageChain>& chain) {
    return chain ? "" : chain.error().text();
}

} // namespace

TEST_SUITE("migrate.image.chain") {

    TEST_CASE("N01 a chain of ten increments is restored, flattened and converted as it was") {
        ChainBench bench;
        SUBCASE("as it is") {}
        SUBCASE("raw") {
            bench.how.layout = ImageLayout::raw;
        }
        SUBCASE("encrypted") {
            bench.how.key = tests::secret_of(1);
        }
        std::vector<std::string> was;
        bench.write_first();
        was.push_back(bench.memory_of(bench.machine));
        for (int number = 1; number <= 10; ++number) {
            bench.go_on(number);
            bench.write_next(number);
            was.push_back(bench.memory_of(bench.machine));
        }
        for (std::size_t number = 0; number <= 10; ++number) {
            auto chain = bench.chain(static_cast<int>(number));
            CHECK(chain.images().size() == number + 1);
            must(chain.verify());
            CHECK(bench.restored(chain) == was[number]);
            if (number > 0) {
                const auto* own = must(chain.image().page_map());
                CHECK(own->count() == changed_pages(was[number - 1], was[number]));
            }
        }
        auto last = bench.chain(10);
        const auto flat = bench.directory.path() / "flat.wimg";
        must(flatten(last, flat, {}));
        auto whole = must(ImageReader::open(flat));
        must(whole.verify());
        CHECK(bench.restored(whole) == was.back());

        const auto converted = bench.directory.path() / "converted.wimg";
        const ImageOptions level_3{.level = 3, .key = bench.how.key};
        must(convert(last, converted, level_3));
        auto again = must(ImageChain::open(converted, {.key = bench.how.key}));
        if (bench.how.key) {
            const auto open = convert(last, bench.directory.path() / "open.wimg", {});
            REQUIRE(!open.has_value());
            CHECK(open.error().text().contains("what is based on it has to be"));
        }
        must(again.verify());
        CHECK(again.images().size() == 11);
        CHECK(bench.restored(again) == was.back());

        // By chunks, as a lazy restore reads it.
        std::string by_chunk(was.back().size(), '\0');
        const auto* map = must(last.page_map());
        std::uint32_t number = 0;
        for (const auto& image : last.images()) {
            for (std::size_t section = 0; section < image.sections().size(); ++section, ++number) {
                if (map->count_in(number) == PageCount{0}) {
                    continue;
                }
                must(last.read_chunk(number, [&](auto pages, std::span<const std::byte> bytes) {
                    const auto text =
                        std::span{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
                    std::ranges::copy(
                        text,
                        by_chunk.begin() +
                            static_cast<long>(formats::gpa_of(pages.first()).value()));
                    return formats::Status{};
                }));
            }
        }
        CHECK(by_chunk == was.back());
    }

    TEST_CASE("two images are compared page by page") {
        ChainBench bench;
        bench.write_first();
        bench.go_on(1);
        bench.write_next(1);
        auto one = bench.chain(0);
        auto other = bench.chain(1);
        for (const bool is_swapped : {false, true}) {
            const auto found =
                is_swapped ? must(compare_images(other, one)) : must(compare_images(one, other));
            auto expected = bench.no_pages();
            for (const std::uint64_t page : {1U, 8U, 15U, 22U, 401U, 101U}) {
                expected.mark(range(page, 1));
            }
            CHECK(found.pages == expected);
            CHECK(found.of == PageCount{512});
            CHECK(found.has_same_state);
        }
        CHECK(must(compare_images(one, one)).pages.is_empty());
    }

    TEST_CASE("N04 a base that is another one is refused") {
        ChainBench bench;
        bench.write_first();
        bench.go_on(1);
        bench.write_next(1);
        bench.go_on(2);
        bench.write_next(2);
        SUBCASE("written anew") {
            std::filesystem::remove(bench.path(0));
            bench.write_first();
            CHECK(refusal_of(ImageChain::open(bench.path(2))).contains("it is not what"));
            CHECK(refusal_of(ImageChain::open(bench.path(2))).contains("1.wimg is based on"));
        }
        SUBCASE("rolled back to an older image of the chain") {
            std::filesystem::copy_file(
                bench.path(0), bench.path(1), std::filesystem::copy_options::overwrite_existing);
            CHECK(refusal_of(ImageChain::open(bench.path(2))).contains("rolled back"));
        }
        SUBCASE("the image itself") {
            std::filesystem::copy_file(
                bench.path(1), bench.path(0), std::filesystem::copy_options::overwrite_existing);
            CHECK(refusal_of(ImageChain::open(bench.path(1))).contains("it is not what"));
        }
        SUBCASE("damaged") {
            auto bytes = tests::bytes_of(bench.path(0));
            tests::flip(bytes, formats::image_block + 3);
            std::filesystem::resize_file(bench.path(0), formats::image_block * 3);
            CHECK(refusal_of(ImageChain::open(bench.path(2))).contains("0.wimg: it is cut off"));
        }
        SUBCASE("gone; or in another directory, which is named") {
            const auto other = bench.directory.path() / "old";
            std::filesystem::create_directory(other);
            std::filesystem::rename(bench.path(0), other / "0.wimg");
            const auto chain = ImageChain::open(bench.path(1));
            REQUIRE(!chain.has_value());
            CHECK(chain.error().code() == formats::ErrorCode::not_found);
            CHECK(chain.error().text().contains("the base of "));
            must(ImageChain::open(bench.path(1), {}, other));
        }
    }

    TEST_CASE("N03 no byte of a chain can be wrong unnoticed, in whichever of its images") {
        ChainBench bench;
        bench.write_first();
        for (int number = 1; number <= 2; ++number) {
            bench.go_on(number);
            bench.write_next(number);
        }
        for (int number = 0; number <= 2; ++number) {
            const auto right = tests::bytes_of(bench.path(number));
            for (std::size_t block = 0; block < right.size(); block += formats::image_block) {
                for (const std::size_t inside : {5U, 60U, 2000U}) {
                    auto damaged = right;
                    tests::flip(damaged, block + inside);
                    tests::write_bytes(bench.path(number), damaged);
                    auto chain = ImageChain::open(bench.path(2));
                    const auto good = chain ? chain->verify() : formats::fail(chain.error());
                    REQUIRE_FALSE(good.has_value());
                    // Which image, or that the base is another one than meant.
                    CHECK_MESSAGE(
                        good.error().text().contains(fmt::format("{}.wimg", number)),
                        good.error().text());
                }
            }
            tests::write_bytes(bench.path(number), right);
        }
        CHECK(refusal_of(ImageChain::open(bench.path(2))).empty());
    }

    TEST_CASE("N04 an image of a chain that is cut off is refused") {
        ChainBench bench;
        bench.write_first();
        bench.go_on(1);
        bench.write_next(1);
        for (int number = 0; number <= 1; ++number) {
            const auto whole = tests::bytes_of(bench.path(number));
            const ImageAccess of_chain{.place = ChainPlace::youngest};
            for (const std::size_t end : tests::boundaries_of(whole, of_chain)) {
                tests::write_bytes(bench.path(number), std::span{whole}.first(end));
                CHECK_FALSE(ImageChain::open(bench.path(1)).has_value());
            }
            tests::write_bytes(bench.path(number), whole);
        }
        CHECK(refusal_of(ImageChain::open(bench.path(1))).empty());
    }

    TEST_CASE("N04 what is signed is based on nothing that anybody can forge") {
        ChainBench bench;
        const auto signing_key = tests::signing_key_of(2);
        SUBCASE("it is not written") {
            bench.write_first();
            const auto refused = bench.chain(0).as_base({.signing_key = signing_key});
            REQUIRE(!refused.has_value());
            CHECK(refused.error().code() == formats::ErrorCode::invalid_argument);
            CHECK(refused.error().text().contains("what is based on it cannot be signed"));
        }
        SUBCASE("it is not read, whoever wrote it") {
            bench.write_first();
            const ImageOptions written{
                .signing_key = signing_key, .base = must(bench.chain(0).as_base({}))};
            const auto file = bench.written(written, [](ImageWriter& writer) {
                must(writer.add_machine_state(tests::ImageBytes(100)));
            });
            tests::write_bytes(bench.path(1), file);
            const auto refused = ImageChain::open(bench.path(1), {.trusted = signing_key});
            REQUIRE(!refused.has_value());
            CHECK(refused.error().code() == formats::ErrorCode::authentication);
            CHECK(refused.error().text().contains("0.wimg is not signed"));
        }
        SUBCASE("what is signed itself will do") {
            bench.how.signing_key = signing_key;
            bench.write_first();
            bench.go_on(1);
            bench.write_next(1);
            must(must(ImageChain::open(bench.path(1), {.trusted = signing_key})).verify());
        }
    }

    TEST_CASE("an image with a base is nothing without it") {
        ChainBench bench;
        bench.write_first();
        bench.go_on(1);
        bench.write_next(1);
        const auto alone = ImageReader::open(bench.path(1));
        REQUIRE(!alone.has_value());
        CHECK(alone.error().code() == formats::ErrorCode::unsupported);
    }

    TEST_CASE("K02 an image of each kind is readable for ever") {
        const std::filesystem::path golden{WHERRY_GOLDEN_FILES};
        const ImageAccess sealed{.key = tests::secret_of(1), .trusted = tests::signing_key_of(2)};
        struct Kind {
            std::string file;
            ImageAccess access;
            std::string pages;
        };
        const std::vector<Kind> kinds{
            {.file = "image_v1_raw.wimg", .access = {}, .pages = "7A8B"},
            {.file = "image_v1_zstd.wimg", .access = {}, .pages = "7A8B"},
            {.file = "image_v1_xxh3.wimg", .access = {}, .pages = "7A8B"},
            {.file = "image_v1_sealed.wimg", .access = sealed, .pages = "7A8B"},
            {.file = "image_v1_child.wimg", .access = {}, .pages = "7A9C"}};
        for (const auto& kind : kinds) {
            CAPTURE(kind.file);
            auto chain = must(ImageChain::open(golden / kind.file, kind.access));
            must(chain.verify());
            CHECK(chain.image().description().plan.vm_name == "golden");
            CHECK(must(chain.image().machine_state()) == tests::ImageBytes(64, std::byte{5}));
            std::string pages;
            must(chain.for_each_run([&](auto run, std::span<const std::byte> bytes) {
                for (std::uint64_t at = 0; at < run.count().value(); ++at) {
                    pages += std::to_string(run.first().value() + at);
                    pages += static_cast<char>(bytes[at * formats::page_size]);
                }
                return formats::Status{};
            }));
            CHECK(pages == kind.pages);
        }
    }
}
