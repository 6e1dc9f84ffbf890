// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_clock.hpp"

#include <chrono>
#include <cstdint>

#include <doctest/doctest.h>

TEST_SUITE("vmm.guest_clock") {
    using namespace wherry;
    using namespace std::chrono_literals;

    TEST_CASE("ticks are time by frequency, rounded down") {
        CHECK(vmm::ticks_in(1ms, 2'596'132) == 2'596'132);
        CHECK(vmm::ticks_in(1ns, 2'596'132) == 2);
        CHECK(vmm::ticks_in(999ns, 1'000'000) == 999);
        CHECK(vmm::ticks_in(0ns, 5'000'000) == 0);
        CHECK(vmm::ticks_in(-5s, 5'000'000) == 0);
    }

    TEST_CASE("ten years at 6 GHz do not overflow") {
        const auto ten_years = std::chrono::hours{24 * 3650};
        CHECK(vmm::ticks_in(ten_years, 6'000'000) == 315'360'000ULL * 6'000'000'000ULL);
    }

    TEST_CASE("a clock that went back passes no time") {
        CHECK(vmm::passed(5s, 7s) == 2s);
        CHECK(vmm::passed(7s, 5s) == 0s);
    }

    TEST_CASE("frequencies within 250 parts in a million are one") {
        CHECK(vmm::same_frequency(2'000'000, 2'000'000));
        CHECK(vmm::same_frequency(2'000'500, 2'000'000));
        CHECK(vmm::same_frequency(1'999'500, 2'000'000));
        CHECK_FALSE(vmm::same_frequency(2'000'501, 2'000'000));
        CHECK_FALSE(vmm::same_frequency(1'999'499, 2'000'000));
        CHECK_FALSE(vmm::same_frequency(2'000'000, 0));
    }

    TEST_CASE("host moments never go back") {
        auto last = vmm::read_host_moment();
        for (int i = 0; i < 100; ++i) {
            const auto next = vmm::read_host_moment();
            CHECK(next.tsc >= last.tsc);
            last = next;
        }
    }
}
