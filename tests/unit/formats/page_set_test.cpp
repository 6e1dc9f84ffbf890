// SPDX-License-Identifier: Apache-2.0
#include "formats/page_set.hpp"

#include "formats/little_endian.hpp"

#include <array>

#include <doctest/doctest.h>

namespace wherry::formats {
namespace {

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

bool refuses(std::span<const std::byte> payload) {
    const auto set = decode_page_set(payload);
    return !set && set.error().code() == ErrorCode::protocol;
}

TEST_SUITE("formats.page_set") {
    TEST_CASE("bytes as WIRE.md has them") {
        const std::array<std::uint64_t, 2> words{0x8000'0000'0000'0001, 0x5};
        const auto payload = encode_page_set(pages(0x1234, 67), words);
        const std::array<unsigned char, 32> expected{0x34, 0x12, 0, 0, 0, 0, 0, 0, 67, 0, 0,
                                                     0,    0,    0, 0, 0, 1, 0, 0, 0,  0, 0,
                                                     0,    0x80, 5, 0, 0, 0, 0, 0, 0,  0};
        REQUIRE(payload.size() == expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            CHECK(std::to_integer<unsigned char>(payload[i]) == expected[i]);
        }
        const auto set = decode_page_set(payload);
        REQUIRE(set);
        CHECK(set->pages == pages(0x1234, 67));
        CHECK(set->words == std::vector<std::uint64_t>{words.begin(), words.end()});
    }

    TEST_CASE("the largest set has the largest payload") {
        const std::vector<std::uint64_t> words(pages_per_set.value() / 64, ~std::uint64_t{0});
        const auto payload = encode_page_set(pages(0, pages_per_set.value()), words);
        CHECK(Bytes{payload.size()} == page_set_limit);
        CHECK(decode_page_set(payload));
    }

    TEST_CASE("what is no page set is refused") {
        const std::array<std::uint64_t, 1> words{1};
        const auto good = encode_page_set(pages(8, 10), words);
        CHECK(refuses({}));
        CHECK(refuses(std::span{good}.first(page_set_header_size)));
        CHECK(refuses(std::span{good}.first(good.size() - 1)));
        auto longer = good;
        longer.resize(good.size() + 8);
        CHECK(refuses(longer));
        auto empty = good;
        store_little<std::uint32_t>(empty, 8, 0);
        CHECK(refuses(empty));
        auto too_many = good;
        store_little<std::uint32_t>(too_many, 8, (1U << 20U) + 1);
        CHECK(refuses(too_many));
        auto wrapping = good;
        store_little<std::uint64_t>(wrapping, 0, ~std::uint64_t{0} - 3);
        CHECK(refuses(wrapping));
        auto reserved = good;
        store_little<std::uint32_t>(reserved, 12, 1);
        CHECK(refuses(reserved));
        auto beyond = good;
        store_little<std::uint64_t>(beyond, page_set_header_size, 1U << 10U);
        CHECK(refuses(beyond));
    }
}

} // namespace
} // namespace wherry::formats
