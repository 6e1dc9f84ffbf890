// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_curve.hpp"

#include <chrono>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

using namespace std::chrono_literals;
using wherry::dirtylog::DirtyCurve;
using wherry::formats::PageCount;

namespace {

constexpr PageCount plenty{1'000'000};

/// Uniform writes to a hot set: set * (1 - e^(-rate t / set)) different pages, and more that are
/// never written twice.
struct Writer {
    double set = 0;
    double rate = 0;
    double stream = 0;

    [[nodiscard]] double in(std::chrono::nanoseconds interval) const {
        const double t = std::chrono::duration<double>{interval}.count();
        return set * (1 - std::exp(-rate * t / set)) + stream * t;
    }
    [[nodiscard]] DirtyCurve curve(std::vector<std::chrono::milliseconds> lengths) const {
        std::vector<DirtyCurve::Point> points;
        for (const auto length : lengths) {
            points.push_back({.interval = length, .usual = in(length), .high = in(length)});
        }
        return {std::move(points), plenty};
    }
};

double value(PageCount pages) {
    return static_cast<double>(pages.value());
}

} // namespace

TEST_SUITE("dirtylog.dirty_curve") {

    TEST_CASE("nothing seen and no time are no pages") {
        CHECK(DirtyCurve{}.usual_in(1s) == PageCount{0});
        const DirtyCurve curve{{{.interval = 100ms, .usual = 50, .high = 70}}, plenty};
        CHECK(curve.usual_in(0s) == PageCount{0});
        CHECK(curve.high_in(-1s) == PageCount{0});
    }

    TEST_CASE("one point is a straight line, up to the memory there is") {
        const DirtyCurve curve{{{.interval = 100ms, .usual = 50, .high = 70}}, PageCount{120}};
        CHECK(curve.usual_in(50ms) == PageCount{25});
        CHECK(curve.usual_in(100ms) == PageCount{50});
        CHECK(curve.usual_in(200ms) == PageCount{100});
        CHECK(curve.usual_in(1h) == PageCount{120});
        CHECK(curve.high_in(100ms) == PageCount{70});
        CHECK(curve.high_in(200ms) == PageCount{120});
    }

    TEST_CASE("points are met, and a shorter interval has no more pages than a longer one") {
        const DirtyCurve curve{
            {{.interval = 100ms, .usual = 60, .high = 90},
             {.interval = 200ms, .usual = 50, .high = 60},
             {.interval = 400ms, .usual = 100, .high = 100}},
            plenty};
        CHECK(curve.usual_in(100ms) == PageCount{60});
        CHECK(curve.usual_in(200ms) == PageCount{60});
        CHECK(curve.usual_in(300ms) == PageCount{80});
        CHECK(curve.usual_in(400ms) == PageCount{100});
        CHECK(curve.high_in(150ms) == PageCount{90});
    }

    TEST_CASE("a hot set is read at lengths shorter and longer than any sample") {
        const Writer writer{.set = 10'000, .rate = 20'000};
        const auto curve = writer.curve({50ms, 100ms, 200ms, 400ms, 800ms});
        for (const auto interval : {5ms, 20ms, 70ms, 300ms, 1600ms, 10'000ms}) {
            CAPTURE(interval.count());
            const double real = writer.in(interval);
            CHECK(value(curve.usual_in(interval)) == doctest::Approx(real).epsilon(0.1));
            CHECK(value(curve.high_in(interval)) >= real * 0.97);
        }
    }

    TEST_CASE("a small set that is always all dirty has no more of it in a long time") {
        const Writer writer{.set = 100, .rate = 1'000'000};
        const auto curve = writer.curve({50ms, 100ms, 200ms});
        CHECK(value(curve.usual_in(1ms)) == doctest::Approx(100));
        CHECK(value(curve.usual_in(1h)) == doctest::Approx(100));
        CHECK(value(curve.high_in(1h)) == doctest::Approx(100));
    }

    TEST_CASE("a stream beside a hot set goes on when the set is used up") {
        const Writer writer{.set = 1'000, .rate = 100'000, .stream = 500};
        const auto curve = writer.curve({50ms, 100ms, 200ms, 400ms, 800ms});
        CHECK(value(curve.usual_in(10s)) == doctest::Approx(writer.in(10s)).epsilon(0.05));
    }

    TEST_CASE("a limit that was not reached is none for the cautious") {
        const Writer writer{.set = 100'000, .rate = 50'000};
        const auto curve = writer.curve({50ms, 100ms, 200ms, 400ms, 800ms});
        CHECK(curve.high_in(8s) > curve.usual_in(8s));
        CHECK(value(curve.high_in(8s)) >= writer.in(8s));
    }

} // TEST_SUITE
