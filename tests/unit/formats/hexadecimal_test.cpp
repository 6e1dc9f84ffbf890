// SPDX-License-Identifier: Apache-2.0
#include "formats/hexadecimal.hpp"

#include <array>

#include <doctest/doctest.h>

using wherry::formats::hexadecimal;

TEST_SUITE("formats.hexadecimal") {
    TEST_CASE("two digits for each byte, in their order") {
        CHECK(hexadecimal({}).empty());
        CHECK(hexadecimal(std::array{std::byte{0}, std::byte{0x0a}, std::byte{0xf1}}) == "000af1");
    }
}
