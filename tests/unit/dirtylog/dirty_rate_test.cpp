// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_rate.hpp"

#include <chrono>

#include <doctest/doctest.h>

using namespace std::chrono_literals;
using wherry::dirtylog::DirtyRate;
using wherry::formats::PageCount;

TEST_SUITE("dirtylog.dirty_rate") {

    TEST_CASE("nothing is known before the first sample, which then counts in full") {
        DirtyRate rate{1s};
        CHECK(rate.pages_per_second() == 0);
        CHECK(rate.expected_in(1s) == PageCount{0});
        rate.add(PageCount{500}, 100ms);
        CHECK(rate.pages_per_second() == doctest::Approx(5000));
        CHECK(rate.expected_in(10ms) == PageCount{50});
    }

    TEST_CASE("a steady rate is found from uneven intervals") {
        DirtyRate rate{1s};
        rate.add(PageCount{1000}, 1s);
        rate.add(PageCount{10}, 10ms);
        rate.add(PageCount{3000}, 3s);
        CHECK(rate.pages_per_second() == doctest::Approx(1000));
        CHECK(rate.largest_pages_per_second() == doctest::Approx(1000));
    }

    TEST_CASE("an old sample has half its weight after one half-life") {
        DirtyRate rate{1s};
        for (int i = 0; i < 50; ++i) {
            rate.add(PageCount{0}, 1s);
        }
        rate.add(PageCount{1000}, 1s);
        CHECK(rate.pages_per_second() == doctest::Approx(500));
        rate.add(PageCount{1000}, 1s);
        CHECK(rate.pages_per_second() == doctest::Approx(750));
    }

    TEST_CASE("a burst is remembered as the largest sample and fades from the mean") {
        DirtyRate rate{1s};
        rate.add(PageCount{10'000}, 1s);
        for (int i = 0; i < 20; ++i) {
            rate.add(PageCount{100}, 1s);
        }
        CHECK(rate.pages_per_second() < 102);
        CHECK(rate.largest_pages_per_second() == doctest::Approx(10'000));
    }

    TEST_CASE("a sample without a duration changes nothing") {
        DirtyRate rate{1s};
        rate.add(PageCount{100}, 1s);
        rate.add(PageCount{100}, 0s);
        rate.add(PageCount{100}, -1s);
        CHECK(rate.pages_per_second() == doctest::Approx(100));
        CHECK(rate.largest_pages_per_second() == doctest::Approx(100));
    }

    TEST_CASE("a part of a page is expected as a page, and time backwards as none") {
        DirtyRate rate{1s};
        rate.add(PageCount{1}, 1s);
        CHECK(rate.expected_in(1ms) == PageCount{1});
        CHECK(rate.expected_in(-1ms) == PageCount{0});
    }

} // TEST_SUITE
