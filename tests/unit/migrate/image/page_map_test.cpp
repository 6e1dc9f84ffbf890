// SPDX-License-Identifier: Apache-2.0
// Which chunk counts for a page: in memory, and in images whose pages come again.
#include "migrate/image/page_map.hpp"

#include "formats/little_endian.hpp"
#include "tests/support/image_bench.hpp"
#include "tests/support/memory_image.hpp"
#include "tests/support/repaired_image.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Gfn;
using formats::PageCount;
using formats::PageMapEntry;
using formats::PageRange;
using tests::must;
using tests::pages_of;
using tests::range;

namespace {

/// What each page begins with; ' ' of a run of zeros.
using Letters = std::map<std::uint64_t, char>;

auto into(Letters& found) {
    return [&found](PageRange pages, std::span<const std::byte> bytes) {
        for (std::uint64_t page = 0; page < pages.count().value(); ++page) {
            const auto letter =
                bytes.empty() ? ' ' : static_cast<char>(bytes[page * formats::page_size]);
            CHECK(found.emplace(pages.first().value() + page, letter).second);
        }
        return formats::Status{};
    };
}

/// Pages 1 and 2 come again, with other contents and with none; a page in one chunk twice.
tests::ImageBytes superseding(tests::ImageBench& bench) {
    return bench.written(
        {.layout = ImageLayout::raw, .given = GivenPages::again}, [](ImageWriter& writer) {
            must(writer.add_pages(range(0, 4), pages_of('a', 4)));
            must(writer.add_machine_state(tests::ImageBytes(100))); // ends the chunk
            must(writer.add_pages(range(1, 1), pages_of('b', 1)));
            must(writer.add_pages(range(2, 1), pages_of(0, 1)));
            must(writer.add_pages(range(9, 1), pages_of(0, 1))); // was never there
            must(writer.add_pages(range(1, 1), pages_of('c', 1)));
            must(writer.add_pages(range(6, 2), pages_of('d', 2)));
        });
}

} // namespace

TEST_SUITE("migrate.image.page_map") {

    TEST_CASE("of several chunks the last one counts") {
        const std::vector ram{range(0, 100), range(100, 50)};
        PageMapBuilder builder{ram};
        builder.add(range(10, 20), 4);
        builder.add(range(15, 2), 6);
        builder.add(range(16, 10), 5);
        builder.add(range(90, 10), 4);
        builder.add(range(100, 1), 4);
        CHECK(builder.chunk_of(Gfn{16}) == 6);
        CHECK_FALSE(builder.has_any(range(30, 60)));
        CHECK(builder.has_any(range(29, 2)));
        const auto map = builder.build();
        const auto entry = [](PageRange pages, std::uint32_t chunk) {
            return PageMapEntry{.pages = pages, .chunk = chunk};
        };
        const std::vector expected{
            entry(range(10, 5), 4),
            entry(range(15, 2), 6),
            entry(range(17, 9), 5),
            entry(range(26, 4), 4),
            entry(range(90, 10), 4),
            entry(range(100, 1), 4)};
        CHECK(std::ranges::equal(map.entries(), expected));
        CHECK(map.count() == PageCount{31});
        CHECK(map.count_in(4) == PageCount{20});
        CHECK(map.count_in(7) == PageCount{0});
        CHECK(map.chunk_of(Gfn{26}) == 4);
        CHECK_FALSE(map.chunk_of(Gfn{30}).has_value());
        CHECK_FALSE(map.chunk_of(Gfn{9}).has_value());
        std::vector<PageRange> parts;
        map.for_each_in(4, range(12, 80), [&parts](PageRange part) { parts.push_back(part); });
        CHECK(parts == std::vector{range(12, 3), range(26, 4), range(90, 2)});
    }

    TEST_CASE("only the contents that a page was given last are given out") {
        tests::ImageBench bench;
        const auto file = superseding(bench);
        auto reader = tests::reader_of(file);
        must(reader.verify());
        Letters found;
        must(reader.for_each_run(into(found)));
        CHECK(found == Letters{{0, 'a'}, {1, 'c'}, {3, 'a'}, {6, 'd'}, {7, 'd'}});

        const auto* map = must(reader.page_map());
        CHECK(map->count() == PageCount{6});
        CHECK_FALSE(map->chunk_of(Gfn{9}).has_value());
        CHECK(map->chunk_of(Gfn{2}) != map->chunk_of(Gfn{3}));
        Letters first;
        must(reader.read_chunk(*map->chunk_of(Gfn{0}), into(first)));
        CHECK(first == Letters{{0, 'a'}, {3, 'a'}});
        Letters zero;
        must(reader.read_chunk(*map->chunk_of(Gfn{2}), into(zero)));
        CHECK(zero == Letters{{2, ' '}});
        Letters last;
        must(reader.read_chunk(*map->chunk_of(Gfn{1}), into(last)));
        CHECK(last == Letters{{1, 'c'}, {6, 'd'}, {7, 'd'}});
    }

    TEST_CASE("the page map is valid wherever its reader is moved") {
        tests::ImageBench bench;
        auto reader = tests::reader_of(superseding(bench));
        const auto* map = must(reader.page_map());
        const auto moved = std::move(reader);
        Letters found;
        must(moved.read_chunk(*map->chunk_of(Gfn{1}), into(found)));
        CHECK(found.size() == 3);
    }

    TEST_CASE("where pages come once, one that comes again is refused") {
        tests::ImageBench bench;
        auto reader = tests::reader_of(bench.whole_image());
        must(reader.verify());
        CHECK(must(reader.page_map())->count() == PageCount{tests::filled_pages / 5 * 4});
        const auto plain = bench.written({.layout = ImageLayout::raw}, [](ImageWriter& writer) {
            must(writer.add_machine_state(tests::ImageBytes(100)));
            must(writer.add_pages(range(1, 1), pages_of('a', 1)));
            must(writer.add_absent(dirtylog::DirtySet{std::vector{range(0, 512)}}));
            must(writer.add_pages(range(3, 1), pages_of('a', 1)));
        });
        auto doubled = plain;
        // The table of the second chunk, whose page becomes that of the first.
        const auto chunk = tests::boundaries_of(plain).at(3);
        const auto first = chunk + formats::section_head_size + formats::batch_header_size;
        REQUIRE(formats::load_little<std::uint64_t>(doubled, first) == 3);
        formats::store_little(doubled, first, std::uint64_t{1});
        tests::repair_image(doubled);
        CHECK(
            tests::complaint_about(doubled) ==
            "test.wimg: section 3 (chunk of pages): not all of its pages 0x1 to 0x1 are RAM that "
            "is in this image, and once");
    }

    TEST_CASE("a page map that is not that of the chunks is refused") {
        tests::ImageBench bench;
        const auto file = superseding(bench);
        const auto map = tests::boundaries_of(file).at(5) + formats::image_block;
        const auto changed = [&](std::size_t at, std::uint32_t value) {
            auto damaged = file;
            formats::store_little(damaged, map + at, value);
            tests::repair_image(damaged);
            return damaged;
        };
        REQUIRE(formats::load_little<std::uint32_t>(file, map + 16) == 1); // of page 1
        REQUIRE(formats::load_little<std::uint32_t>(file, map + 12) == 1); // chunk of page 0
        const auto of_page_1 = formats::load_little<std::uint32_t>(file, map + 16 + 12);
        CHECK(tests::complaint_about(changed(12, 1)).empty());
        SUBCASE("as it names an older chunk") {
            CHECK(
                tests::complaint_about(changed(16 + 12, 1)) ==
                "test.wimg: its page map is not that of its chunks");
        }
        SUBCASE("as it names a chunk that does not have the page") {
            auto reader = tests::reader_of(changed(12, of_page_1));
            must(reader.page_map());
            Letters found;
            const auto read = reader.read_chunk(of_page_1, into(found));
            REQUIRE(!read.has_value());
            CHECK(
                read.error().text() ==
                fmt::format(
                    "test.wimg: section {} (chunk of pages): it lacks pages that the page map "
                    "says it has",
                    of_page_1));
            CHECK(found.empty());
        }
        SUBCASE("as it names what is no chunk") {
            for (const std::uint32_t number : {0U, 2U, 99U}) {
                CHECK(tests::complaint_about(changed(12, number)).contains("cannot be in section"));
            }
        }
        SUBCASE("as it names what is no RAM") {
            CHECK(tests::complaint_about(changed(4 * 16, 0x7fff)).contains("cannot be in section"));
        }
    }

    TEST_CASE("of an image without a page map it is made of the chunks") {
        auto reader =
            must(ImageReader::open(std::filesystem::path{WHERRY_GOLDEN_FILES} / "image_v1.wimg"));
        const auto* map = must(reader.page_map());
        CHECK(map->count() == PageCount{2});
        Letters found;
        must(reader.read_chunk(*map->chunk_of(Gfn{7}), into(found)));
        CHECK(found == Letters{{7, 'A'}, {8, 'B'}});
    }
}
