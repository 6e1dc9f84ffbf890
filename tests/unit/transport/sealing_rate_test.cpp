// SPDX-License-Identifier: Apache-2.0
#include "transport/sealing_rate.hpp"

#include <doctest/doctest.h>

using namespace wherry::transport;
using namespace std::chrono_literals;

TEST_SUITE("transport.sealing_rate") {
    TEST_CASE("a core encrypts something, also where it is given no time") {
        for (const auto time : {0ms, 5ms}) {
            const auto rate = measure_sealing(time);
            REQUIRE(rate);
            CHECK(rate->low > BytesPerSecond{0});
            CHECK(rate->usual >= rate->low);
        }
    }
}
