// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/working_set.hpp"

#include "mapped_memory.hpp"

#include <array>
#include <chrono>

#include <doctest/doctest.h>

using namespace std::chrono_literals;
using namespace wherry::dirtylog;
using wherry::dirtylog::test::pages;
using wherry::formats::PageCount;
using wherry::formats::PageRange;

namespace {

const std::array ram{pages(0, 1000), pages(5000, 1000)};

DirtySet of(PageRange range) {
    DirtySet set{ram};
    set.mark(range);
    return set;
}

} // namespace

TEST_SUITE("dirtylog.working_set") {

    TEST_CASE("nothing was harvested and nothing is known") {
        const WorkingSet seen{ram};
        CHECK(seen.written() == PageCount{0});
        CHECK(seen.curve().points().empty());
    }

    TEST_CASE("harvests are samples of each length, in which a page counts once") {
        WorkingSet seen{ram};
        // The same ten pages each time, and ten new ones.
        for (std::uint64_t i = 0; i < 8; ++i) {
            auto harvest = of(pages(0, 10));
            harvest.mark(pages(5000 + 10 * i, 10));
            seen.add(harvest, 50ms);
        }
        CHECK(seen.written() == PageCount{90});
        const auto curve = seen.curve();
        REQUIRE(curve.points().size() == 4);
        const std::array expected{
            DirtyCurve::Point{.interval = 50ms, .usual = 20, .high = 20, .samples = 8},
            DirtyCurve::Point{.interval = 100ms, .usual = 30, .high = 30, .samples = 4},
            DirtyCurve::Point{.interval = 200ms, .usual = 50, .high = 50, .samples = 2},
            DirtyCurve::Point{.interval = 400ms, .usual = 90, .high = 90, .samples = 1}};
        for (std::size_t i = 0; i < expected.size(); ++i) {
            CAPTURE(i);
            CHECK(curve.points()[i].interval == expected[i].interval);
            CHECK(curve.points()[i].usual == expected[i].usual);
            CHECK(curve.points()[i].high == expected[i].high);
            CHECK(curve.points()[i].samples == expected[i].samples);
        }
    }

    TEST_CASE("a burst is in what is rarely exceeded, not in what is usual") {
        WorkingSet seen{ram};
        for (int i = 0; i < 16; ++i) {
            seen.add(of(pages(0, i % 8 == 7 ? 500 : 10)), 50ms);
        }
        const auto first = seen.curve().points()[0];
        CHECK(first.usual == 10);
        CHECK(first.high == 500);
    }

    TEST_CASE("the whole time is a sample where no level has it, as spread out as the others") {
        WorkingSet seen{ram};
        for (std::uint64_t i = 0; i < 6; ++i) {
            seen.add(of(pages(100 * i, i == 0 ? 100 : 10)), 50ms);
        }
        const auto curve = seen.curve();
        REQUIRE(curve.points().size() == 4);
        CHECK(curve.points()[3].interval == 300ms);
        CHECK(curve.points()[3].usual == 150);
        CHECK(curve.points()[3].high > 150);
    }

    TEST_CASE("a spread that is taken over is no more than the time allows") {
        WorkingSet seen{ram};
        for (std::uint64_t i = 0; i < 8; ++i) {
            seen.add(of(pages(100 * i, i % 2 == 0 ? 1 : 100)), 50ms);
        }
        const auto curve = seen.curve();
        REQUIRE(curve.points().size() == 4);
        CHECK(curve.points()[0].high == 100);
        for (std::size_t i = 1; i < 4; ++i) {
            CHECK(curve.points()[i].high <= curve.points()[i - 1].high * 2);
        }
    }

    TEST_CASE("a harvest of no time is none") {
        WorkingSet seen{ram};
        seen.add(of(pages(0, 10)), 0ms);
        CHECK(seen.curve().points().empty());
    }

    TEST_CASE("no curve is above the memory there is") {
        WorkingSet seen{ram};
        seen.add(of(pages(0, 1000)), 50ms);
        CHECK(seen.curve().high_in(1h) == PageCount{2000});
    }

} // TEST_SUITE
