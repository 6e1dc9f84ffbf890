// SPDX-License-Identifier: Apache-2.0
// Images that are encrypted and signed: what happens without the key, with another one, and to who
// changes something without it.
#include "formats/little_endian.hpp"
#include "tests/support/image_bench.hpp"
#include "tests/support/repaired_image.hpp"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using tests::complaint_about;
using tests::ImageBytes;
using tests::must;
using tests::pages_of;
using tests::range;

namespace {

const ImageAccess right{.key = tests::secret_of(1), .trusted = tests::signing_key_of(2)};

ImageOptions sealed_and_signed(ImageLayout layout = ImageLayout::zstd) {
    return {
        .layout = layout,
        .chunk_pages = formats::PageCount{32},
        .key = tests::secret_of(1),
        .signing_key = tests::signing_key_of(2)};
}

ImageBytes image_of(tests::ImageBench& bench, const ImageOptions& options) {
    return bench.written(options, [](ImageWriter& writer) {
        must(writer.add_machine_state(ImageBytes(100)));
        for (std::uint64_t first = 0; first < 96; first += 32) {
            must(writer.add_pages(range(first, 32), pages_of('x', 32)));
        }
    });
}

bool has(const ImageBytes& file, std::string_view text) {
    const auto bytes = std::as_bytes(std::span{text});
    return !std::ranges::search(file, bytes).empty();
}

void write_file(
    const std::filesystem::path& path, std::string_view text, std::filesystem::perms mode) {
    std::ofstream{path, std::ios::binary} << text;
    std::filesystem::permissions(path, mode);
}

constexpr auto owner_only = std::filesystem::perms::owner_read;

} // namespace

TEST_SUITE("migrate.image.keys") {

    TEST_CASE("nothing of a guest can be read in an encrypted image") {
        tests::ImageBench bench;
        const std::string page(64, 'x');
        for (const auto layout : {ImageLayout::raw, ImageLayout::zstd}) {
            const auto open = image_of(bench, {.layout = layout});
            const auto sealed = image_of(bench, sealed_and_signed(layout));
            const auto id = tests::description_of(ImageExtent::whole).plan.vm_id;
            CHECK(has(open, id));
            CHECK_FALSE(has(sealed, id));
            CHECK((layout == ImageLayout::zstd || has(open, page)));
            CHECK_FALSE(has(sealed, page));
            CHECK(complaint_about(sealed, right).empty());
        }
    }

    TEST_CASE("N04 a wrong key is told from damage, and none from a wrong one") {
        tests::ImageBench bench;
        const auto file = image_of(bench, sealed_and_signed());
        CHECK(
            complaint_about(file, {.key = tests::secret_of(3)}) ==
            "test.wimg: it is encrypted with another key");
        CHECK(complaint_about(file) == "test.wimg: it is encrypted: --key KEYFILE");
        CHECK(complaint_about(file, {.key = tests::secret_of(1)}).empty());
        CHECK(complaint_about(image_of(bench, {}), {.key = tests::secret_of(1)})
                  .contains("it is not encrypted"));
    }

    TEST_CASE("N04 a signature by another key is refused, and so is none") {
        tests::ImageBench bench;
        const auto file = image_of(bench, {.signing_key = tests::signing_key_of(2)});
        CHECK(complaint_about(file).empty());
        CHECK(complaint_about(file, {.trusted = tests::signing_key_of(2)}).empty());
        CHECK(complaint_about(file, {.trusted = tests::signing_key_of(4)})
                  .contains("it is signed by another key, sha256:"));
        CHECK(
            complaint_about(image_of(bench, {}), {.trusted = tests::signing_key_of(2)}) ==
            "test.wimg: it is not signed, and only trusted as signed");
    }

    TEST_CASE("N04 a signature that does not vouch for the contents is refused") {
        tests::ImageBench bench;
        auto file = image_of(bench, {.signing_key = tests::signing_key_of(2)});
        auto header =
            must(formats::decode_image_header(std::span{file}.first<formats::image_block>()));
        header.critical_features.emplace_back(formats::xxh3_feature);
        std::ranges::copy(formats::encode_image_header(header), file.begin());
        tests::repair_image(file);
        CHECK(
            complaint_about(file) ==
            "test.wimg: it is signed, and its digests are not such as a signature vouches for");
    }

    TEST_CASE("N03 no byte of a sealed and signed image can be wrong unnoticed") {
        tests::ImageBench bench;
        const auto file = image_of(bench, sealed_and_signed());
        const auto blocks = file.size() / formats::image_block;
        for (std::size_t block = 0; block < blocks; ++block) {
            for (const std::size_t inside : {0U, 30U, 75U, 90U, 125U, 160U, 220U, 2000U, 4095U}) {
                auto damaged = file;
                tests::flip(damaged, block * formats::image_block + inside);
                CHECK_MESSAGE(
                    complaint_about(std::move(damaged), right).starts_with("test.wimg: "),
                    fmt::format("block {}, byte {}", block, inside));
            }
        }
    }

    TEST_CASE("N03 who changes an image without its keys is found out, digests or not") {
        tests::ImageBench bench;
        for (const auto& access :
             {ImageAccess{.key = right.key}, ImageAccess{.trusted = right.trusted}}) {
            const auto options = ImageOptions{.key = access.key, .signing_key = access.trusted};
            const auto file = image_of(bench, options);
            const auto begins = tests::boundaries_of(file, access);
            for (std::size_t number = 0; number + 1 < begins.size(); ++number) {
                auto forged = file;
                tests::flip(forged, begins[number] + formats::image_block + 8);
                tests::repair_image(forged);
                const auto complaint = complaint_about(forged, access);
                CHECK_MESSAGE(
                    (complaint == "test.wimg: it was changed by someone without its key" ||
                     complaint == "test.wimg: its signature is wrong"),
                    complaint);
            }
        }
    }

    TEST_CASE("a sealed section is right at its place only") {
        const formats::ImageId id{std::byte{1}};
        const ImageKey key{*tests::secret_of(1), id};
        const auto table = ImageBytes(10, std::byte{3});
        const auto payload = ImageBytes(5000, std::byte{4});
        const SealedPlace place{.number = 7, .type = formats::SectionType::pages, .flags = 5};
        ImageBytes sealed(
            ImageKey::sealed_length(formats::Bytes{10}, formats::Bytes{5000}).value());
        key.seal(place, table, payload, sealed);
        const auto opened = must(key.open(place, sealed));
        CHECK(opened.table == table);
        CHECK(opened.payload == payload);
        auto other = place;
        SUBCASE("not under another number") {
            other.number = 8;
        }
        SUBCASE("not as another type") {
            other.type = formats::SectionType::page_map;
        }
        SUBCASE("not with other flags") {
            other.flags = 7;
        }
        CHECK(
            key.open(other, sealed).has_value() ==
            (other.number == 7 && other.flags == 5 && other.type == formats::SectionType::pages));
        CHECK_FALSE(key.open(place, std::span{sealed}.first(19)).has_value());
        CHECK_FALSE(
            ImageKey(*tests::secret_of(1), formats::ImageId{}).open(place, sealed).has_value());
        auto damaged = sealed;
        damaged.back() ^= std::byte{1};
        CHECK_FALSE(key.open(place, damaged).has_value());
    }

    TEST_CASE("S08 a key file has 32 bytes or 64 digits, and is its owner's alone") {
        const tests::TempDirectory directory;
        const auto path = directory.path() / "key";
        const auto digits = std::string(32, '0') + "0123456789abcdefABCDEF0123456789";
        KeyBytes expected{};
        for (std::size_t at = 0; at < 16; ++at) {
            constexpr std::array<unsigned char, 16> last{
                0x01,
                0x23,
                0x45,
                0x67,
                0x89,
                0xab,
                0xcd,
                0xef,
                0xab,
                0xcd,
                0xef,
                0x01,
                0x23,
                0x45,
                0x67,
                0x89};
            expected[16 + at] = static_cast<std::byte>(last[at]);
        }
        for (const auto& text : {digits, digits + "\n"}) {
            write_file(path, text, owner_only);
            CHECK(must(read_key_file(path))->bytes() == expected);
            std::filesystem::remove(path);
        }
        write_file(path, std::string(32, 'k'), owner_only);
        CHECK(must(read_key_file(path))->bytes().front() == std::byte{'k'});
        std::filesystem::permissions(
            path, std::filesystem::perms::group_read, std::filesystem::perm_options::add);
        const auto open = read_key_file(path);
        REQUIRE(!open.has_value());
        CHECK(open.error().code() == formats::ErrorCode::permission);
        CHECK(open.error().text().contains("chmod 600"));
        for (const auto& text : {digits.substr(1), digits + "0", std::string(63, '0') + "g"}) {
            std::filesystem::remove(path);
            write_file(path, text, owner_only);
            CHECK(read_key_file(path).error().code() == formats::ErrorCode::invalid_argument);
        }
        CHECK(
            read_key_file(directory.path() / "none").error().code() ==
            formats::ErrorCode::not_found);
    }

    TEST_CASE("keys to sign with and to trust come out of PEM files") {
        const tests::TempDirectory directory;
        const auto path = directory.path() / "key.pem";
        // RFC 8410, section 10.
        constexpr std::string_view private_key =
            "-----BEGIN PRIVATE KEY-----\n"
            "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
            "-----END PRIVATE KEY-----\n";
        constexpr std::string_view public_key =
            "-----BEGIN PUBLIC KEY-----\n"
            "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
            "-----END PUBLIC KEY-----\n";
        write_file(path, private_key, owner_only);
        const auto signing = must(read_signing_key(path));
        CHECK(read_trusted_key(path).error().code() == formats::ErrorCode::invalid_argument);
        std::filesystem::permissions(
            path, std::filesystem::perms::others_read, std::filesystem::perm_options::add);
        CHECK(read_signing_key(path).error().code() == formats::ErrorCode::permission);
        std::filesystem::remove(path);
        write_file(path, public_key, std::filesystem::perms::all);
        const auto trusted = must(read_trusted_key(path));
        CHECK(signing->signer() == trusted->signer());
        const formats::ImageId id{std::byte{1}};
        const formats::ImageDigest root{std::byte{2}};
        const auto signature = signing->sign(id, root);
        must(trusted->check(id, root, signature));
        CHECK_FALSE(trusted->check(id, formats::ImageDigest{}, signature).has_value());
        CHECK_FALSE(trusted->check({}, root, signature).has_value());
    }
}
