// SPDX-License-Identifier: Apache-2.0
#include "formats/image.hpp"

#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"
#include "formats/proto/image.pb.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

constexpr ImageId some_id{std::byte{1}, std::byte{2}};

SectionHead chunk_of(std::uint64_t pages) {
    return {
        .type = SectionType::pages,
        .is_critical = true,
        .table_length = 32,
        .payload_length = bytes_of(PageCount{pages}),
        .digest = {std::byte{9}}};
}

std::vector<IndexEntry> two_entries() {
    const auto first = chunk_of(2);
    return {
        {.offset = Bytes{image_block}, .head = first},
        {.offset = Bytes{image_block} + section_length(first), .head = chunk_of(1)}};
}

Bytes end_of(const std::vector<IndexEntry>& entries) {
    return entries.back().offset + section_length(entries.back().head);
}

} // namespace

TEST_SUITE("formats.image") {

    TEST_CASE("a header is read as it was written") {
        const auto block = encode_image_header(
            {.id = some_id, .critical_features = {}, .optional_features = {"x"}});
        const auto read = decode_image_header(block);
        REQUIRE(read.has_value());
        CHECK(read->id == some_id);
        CHECK(read->optional_features == std::vector<std::string>{"x"});
    }

    TEST_CASE("critical features that are not known are refused by name") {
        const auto block = encode_image_header(
            {.id = some_id,
             .critical_features = {"superseded-pages", "flight", "age\n"},
             .optional_features = {}});
        const auto read = decode_image_header(block);
        REQUIRE(!read.has_value());
        CHECK(read.error().code() == ErrorCode::unsupported);
        CHECK(read.error().text() == "it needs what this version does not know: flight, age?");
    }

    TEST_CASE("a critical feature that is known is kept") {
        const auto read = decode_image_header(encode_image_header(
            {.id = some_id,
             .critical_features = {std::string{superseded_pages_feature}},
             .optional_features = {}}));
        REQUIRE(read.has_value());
        CHECK(read->needs(superseded_pages_feature));
        CHECK_FALSE(read->needs("flight"));
    }

    TEST_CASE("no bit of a header, a head or a trailer can be wrong unnoticed") {
        const auto header =
            encode_image_header({.id = some_id, .critical_features = {}, .optional_features = {}});
        const auto head = encode_section_head(chunk_of(3), 7, some_id);
        const ImageTrailer ends{
            .id = some_id,
            .index_offset = Bytes{8192},
            .file_length = Bytes{65536},
            .root = {std::byte{3}}};
        const auto trailer = encode_image_trailer(ends);
        REQUIRE(decode_image_header(header).has_value());
        REQUIRE(decode_section_head(head).has_value());
        REQUIRE(decode_image_trailer(trailer) == ends);
        const auto flipped = [](auto bytes, std::size_t bit) {
            bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
            return bytes;
        };
        for (std::size_t bit = 0; bit < image_block * 8; ++bit) {
            CHECK_FALSE(decode_image_header(flipped(header, bit)).has_value());
            CHECK_FALSE(decode_image_trailer(flipped(trailer, bit)).has_value());
        }
        for (std::size_t bit = 0; bit < section_head_size * 8; ++bit) {
            CHECK_FALSE(decode_section_head(flipped(head, bit)).has_value());
        }
    }

    TEST_CASE("a version that is not known is a matter of its own") {
        auto block =
            encode_image_header({.id = some_id, .critical_features = {}, .optional_features = {}});
        store_little<std::uint32_t>(block, 8, 2);
        CHECK(decode_image_header(block).error().code() == ErrorCode::version_mismatch);
    }

    TEST_CASE("an index names sections that lie one behind the other") {
        const auto entries = two_entries();
        const auto payload = encode_image_index(entries);
        const auto read = decode_image_index(payload, end_of(entries));
        REQUIRE(read.has_value());
        CHECK(*read == entries);

        SUBCASE("and end where it begins") {
            CHECK_FALSE(decode_image_index(payload, end_of(entries) + page_bytes).has_value());
            CHECK_FALSE(decode_image_index(payload, entries.back().offset).has_value());
        }
        SUBCASE("in this order") {
            auto swapped = entries;
            std::swap(swapped[0], swapped[1]);
            CHECK_FALSE(
                decode_image_index(encode_image_index(swapped), end_of(entries)).has_value());
        }
        SUBCASE("and are not longer than their type allows") {
            auto longer = entries;
            longer.back().head = chunk_of(257);
            const auto refused = decode_image_index(encode_image_index(longer), end_of(longer));
            REQUIRE(!refused.has_value());
            CHECK(refused.error().text().contains("more than the limit"));
        }
        SUBCASE("in whole entries") {
            CHECK_FALSE(
                decode_image_index(std::span{payload}.first(payload.size() - 1), end_of(entries))
                    .has_value());
        }
    }

    TEST_CASE("sections of unknown types are skipped, or refused where they are critical") {
        auto entries = two_entries();
        entries.back().head.type = SectionType{77};
        entries.back().head.is_critical = false;
        const auto read = decode_image_index(encode_image_index(entries), end_of(entries));
        REQUIRE(read.has_value());
        CHECK(name_of(read->back().head.type) == "section of an unknown type");
        entries.back().head.is_critical = true;
        const auto refused = decode_image_index(encode_image_index(entries), end_of(entries));
        REQUIRE(!refused.has_value());
        CHECK(refused.error().code() == ErrorCode::unsupported);
        CHECK(refused.error().text().contains("type 77"));
    }
}
