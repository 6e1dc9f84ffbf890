// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/fault_queue.hpp"
#include "migrate/postcopy/latency_histogram.hpp"

#include <doctest/doctest.h>

namespace wherry::migrate {
namespace {

using namespace std::chrono_literals;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using Clock = FaultQueue::Clock;

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

TEST_SUITE("migrate.fault_queue") {
    TEST_CASE("a page is asked for once, however many wait for it") {
        int news = 0;
        FaultQueue queue{[&news] {
            ++news;
        }};
        queue.wanted(pages(7, 1));
        queue.wanted(pages(7, 1));
        queue.wanted(pages(3, 1));
        CHECK(news == 2);
        CHECK(queue.take(10) == std::vector{pages(7, 1), pages(3, 1)});
        queue.wanted(pages(7, 1));
        CHECK(queue.take(10).empty());
        CHECK(queue.waiting() == 2);
    }

    TEST_CASE("a request has a limit, and the rest comes with the next") {
        FaultQueue queue{[] {
        }};
        for (std::uint64_t i = 0; i < 5; ++i) {
            queue.wanted(pages(10 * i, 1));
        }
        CHECK(queue.take(3).size() == 3);
        CHECK(queue.take(3) == std::vector{pages(30, 1), pages(40, 1)});
    }

    TEST_CASE("of a window that is waited for in part only the rest is asked for") {
        FaultQueue queue{[] {
        }};
        queue.wanted(pages(100, 1));
        queue.wanted(pages(110, 2));
        CHECK(queue.take(10).size() == 2);
        queue.wanted(pages(90, 40));
        CHECK(queue.take(10) == std::vector{pages(90, 10), pages(101, 9), pages(112, 18)});
    }

    TEST_CASE("a window is there when its last piece is, in whatever order and however often") {
        FaultQueue queue{[] {
        }};
        const auto start = Clock::now();
        queue.wanted(pages(0, 512), start);
        queue.arrived(pages(256, 512), start + 1ms);
        queue.arrived(pages(256, 512), start + 1ms);
        CHECK(queue.waiting() == 1);
        queue.arrived(pages(0, 255), start + 2ms);
        CHECK(queue.waiting() == 1);
        queue.arrived(pages(255, 1), start + 3ms);
        CHECK(queue.waiting() == 0);
        CHECK(queue.latency().count() == 1);
        CHECK(queue.latency().longest() == 3ms);
    }

    TEST_CASE("one arrival ends all waits inside it and leaves those outside") {
        FaultQueue queue{[] {
        }};
        const auto start = Clock::now();
        queue.wanted(pages(5, 1), start);
        queue.wanted(pages(9, 1), start);
        queue.wanted(pages(20, 1), start);
        queue.arrived(pages(0, 16), start + 500us);
        CHECK(queue.waiting() == 1);
        CHECK(queue.latency().count() == 2);
    }

    TEST_CASE("after a lost connection everything that is waited for is asked for again") {
        FaultQueue queue{[] {
        }};
        const auto start = Clock::now();
        queue.wanted(pages(50, 1), start);
        queue.wanted(pages(10, 1), start + 1ms);
        queue.wanted(pages(30, 1), start + 2ms);
        CHECK(queue.take(10).size() == 3);
        queue.arrived(pages(10, 1), start + 3ms);
        queue.ask_again();
        CHECK(queue.take(10) == std::vector{pages(50, 1), pages(30, 1)});
    }

    TEST_CASE("what arrived before it was asked for is not asked for") {
        FaultQueue queue{[] {
        }};
        queue.wanted(pages(50, 1));
        queue.arrived(pages(48, 8));
        CHECK(queue.take(10).empty());
    }
}

TEST_SUITE("migrate.latency_histogram") {
    TEST_CASE("P06 nothing recorded: nothing to say") {
        const LatencyHistogram histogram;
        CHECK(histogram.count() == 0);
        CHECK(histogram.percentile(99) == 0us);
        CHECK(histogram.longest() == 0us);
    }

    TEST_CASE("P06 a percentile is at most an eighth above the truth, and never below it") {
        LatencyHistogram histogram;
        for (int us = 1; us <= 100'000; ++us) {
            histogram.record(std::chrono::microseconds{us});
        }
        for (const double percent : {1.0, 50.0, 90.0, 99.0, 99.9}) {
            const auto exact = std::chrono::microseconds{static_cast<int>(percent * 1000)};
            CHECK(histogram.percentile(percent) >= exact);
            CHECK(histogram.percentile(percent) <= exact + exact / 8 + 1us);
        }
        CHECK(histogram.percentile(100) == 100ms);
    }

    TEST_CASE("P06 durations beyond any sense are counted, too") {
        LatencyHistogram histogram;
        histogram.record(-1us);
        histogram.record(48h);
        CHECK(histogram.count() == 2);
        CHECK(histogram.percentile(100) == 48h);
        CHECK(histogram.percentile(50) <= 1us);
    }

    TEST_CASE("P06 two merged are as one that recorded both") {
        LatencyHistogram a;
        LatencyHistogram b;
        LatencyHistogram both;
        for (int i = 0; i < 1000; ++i) {
            const auto took = std::chrono::microseconds{i * i};
            (i % 2 == 0 ? a : b).record(took);
            both.record(took);
        }
        a.merge(b);
        CHECK(a.count() == both.count());
        CHECK(a.percentile(95) == both.percentile(95));
        CHECK(a.longest() == both.longest());
    }
}

} // namespace
} // namespace wherry::migrate
