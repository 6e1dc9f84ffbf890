// SPDX-License-Identifier: Apache-2.0
#include "formats/page_digest.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::formats;

TEST_SUITE("formats.page_digest") {

    TEST_CASE("the digest is XXH3-64 with seed 0") {
        // Published test value of the empty input.
        CHECK(digest_of({}) == Digest{0x2d06800538d394c2});
    }

    TEST_CASE("bytes in pieces have the digest of the whole") {
        std::mt19937_64 random{1};
        std::vector<std::byte> bytes(100'000);
        std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random()); });
        StreamingDigest digest;
        for (int turn = 0; turn < 20; ++turn) {
            digest.reset();
            std::span<const std::byte> rest{bytes};
            while (!rest.empty()) {
                const std::size_t piece = std::min<std::size_t>(rest.size(), random() % 10'000);
                digest.update(rest.first(piece));
                rest = rest.subspan(piece);
            }
            CHECK(digest.value() == digest_of(bytes));
        }
    }

    TEST_CASE("a digest notices a single changed bit") {
        std::array<std::byte, page_size> page{};
        const Digest before = digest_of(page);
        page[1234] = std::byte{0x10};
        CHECK(digest_of(page) != before);
    }

    TEST_CASE("a page with any single bit set is not zero") {
        alignas(64) std::array<std::byte, page_size> page{};
        CHECK(is_zero_page(page));
        for (std::size_t at = 0; at < page_size; ++at) {
            for (unsigned bit = 0; bit < 8; ++bit) {
                page[at] = std::byte{1} << bit;
                REQUIRE_FALSE(is_zero_page(page));
            }
            page[at] = std::byte{0};
        }
        CHECK(is_zero_page(page));
    }

    TEST_CASE("the bytes around an unaligned zero page do not count") {
        std::vector<std::byte> bytes(page_size + 2, std::byte{0xff});
        std::fill_n(bytes.begin() + 1, page_size, std::byte{0});
        CHECK(is_zero_page(std::span{bytes}.subspan<1, page_size>()));
        CHECK_FALSE(is_zero_page(std::span{bytes}.subspan<2, page_size>()));
        CHECK_FALSE(is_zero_page(std::span{bytes}.first<page_size>()));
    }

} // TEST_SUITE
