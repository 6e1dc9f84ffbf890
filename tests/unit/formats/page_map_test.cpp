// SPDX-License-Identifier: Apache-2.0
#include "formats/page_map.hpp"

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

PageMapEntry entry(std::uint64_t first, std::uint64_t count, std::uint32_t chunk) {
    return {.pages = *PageRange::make(Gfn{first}, PageCount{count}), .chunk = chunk};
}

} // namespace

TEST_SUITE("formats.page_map") {

    TEST_CASE("a page map is read as it was written") {
        const std::vector entries{entry(1, 3, 7), entry(4, 1, 2), entry(1ULL << 40U, 9, 7)};
        const auto bytes = encode_page_map(entries);
        CHECK(bytes.size() == 3 * page_map_entry_size);
        std::vector<PageMapEntry> read;
        REQUIRE(decode_page_map(bytes, read).has_value());
        CHECK(read == entries);
    }

    TEST_CASE("sections of a page map are read one behind the other") {
        std::vector<PageMapEntry> read;
        REQUIRE(decode_page_map(encode_page_map(std::vector{entry(1, 3, 7)}), read).has_value());
        const std::vector overlapping{entry(3, 2, 8)};
        CHECK_FALSE(decode_page_map(encode_page_map(overlapping), read).has_value());
        const std::vector behind{entry(4, 1, 8)};
        REQUIRE(decode_page_map(encode_page_map(behind), read).has_value());
        CHECK(read == std::vector{entry(1, 3, 7), entry(4, 1, 8)});
    }

    TEST_CASE("a page map is refused that") {
        const auto refused = [](const std::vector<PageMapEntry>& entries) {
            std::vector<PageMapEntry> into;
            const auto read = decode_page_map(encode_page_map(entries), into);
            return !read && read.error().code() == ErrorCode::corrupted;
        };
        SUBCASE("has no entry") {
            CHECK(refused({}));
        }
        SUBCASE("has a page twice") {
            CHECK(refused({entry(1, 3, 1), entry(3, 1, 2)}));
        }
        SUBCASE("does not ascend") {
            CHECK(refused({entry(5, 1, 1), entry(3, 1, 2)}));
        }
        SUBCASE("has an entry without pages, or half of one") {
            auto bytes = encode_page_map(std::vector{entry(5, 1, 1)});
            std::vector<PageMapEntry> into;
            CHECK_FALSE(decode_page_map(std::span{bytes}.first(15), into).has_value());
            bytes[8] = std::byte{0};
            CHECK_FALSE(decode_page_map(bytes, into).has_value());
        }
        SUBCASE("has more entries than a section may") {
            const std::vector<std::byte> bytes((page_map_entries_limit + 1) * page_map_entry_size);
            std::vector<PageMapEntry> into;
            CHECK_FALSE(decode_page_map(bytes, into).has_value());
        }
    }
}
