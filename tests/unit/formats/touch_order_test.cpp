// SPDX-License-Identifier: Apache-2.0
#include "formats/touch_order.hpp"

#include <array>

#include <doctest/doctest.h>

namespace wherry::formats {
namespace {

TouchOrder sample() {
    TouchOrder order;
    for (std::size_t i = 0; i < order.root.size(); ++i) {
        order.root[i] = static_cast<std::byte>(i);
    }
    order.chunks = {3, 0x01020304};
    return order;
}

TEST_SUITE("formats.touch_order") {
    TEST_CASE("bytes as docs/image-format.md has them") {
        const auto file = encode_touch_order(sample());
        constexpr std::array<unsigned char, 16> front{
            'W', 'H', 'E', 'R', 'R', 'Y', 'O', 'R', 1, 0, 0, 0, 2, 0, 0, 0};
        constexpr std::array<unsigned char, 8> chunks{3, 0, 0, 0, 4, 3, 2, 1};
        REQUIRE(file.size() == 64);
        for (std::size_t i = 0; i < front.size(); ++i) {
            CHECK(std::to_integer<unsigned char>(file[i]) == front[i]);
        }
        for (std::size_t i = 0; i < 32; ++i) {
            CHECK(std::to_integer<unsigned char>(file[16 + i]) == i);
        }
        for (std::size_t i = 0; i < chunks.size(); ++i) {
            CHECK(std::to_integer<unsigned char>(file[48 + i]) == chunks[i]);
        }
        CHECK(decode_touch_order(file) == sample());
    }

    TEST_CASE("no byte can be wrong or missing unnoticed") {
        const auto file = encode_touch_order(sample());
        for (std::size_t at = 0; at < file.size(); ++at) {
            auto damaged = file;
            damaged[at] ^= std::byte{0x10};
            CHECK_FALSE(decode_touch_order(damaged));
            CHECK_FALSE(decode_touch_order(std::span{file}.first(at)));
        }
        auto longer = file;
        longer.push_back(std::byte{0});
        CHECK_FALSE(decode_touch_order(longer));
        CHECK(decode_touch_order(encode_touch_order({}))->chunks.empty());
    }
}

} // namespace
} // namespace wherry::formats
