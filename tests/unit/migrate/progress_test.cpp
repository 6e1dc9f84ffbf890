// SPDX-License-Identifier: Apache-2.0
#include "migrate/progress.hpp"

#include "harness.hpp"

#include <utility>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Bytes;
using formats::PageCount;
using namespace std::chrono_literals;

namespace {

Progress::Clock::time_point test_time;
Progress::Clock::time_point test_now() {
    return test_time;
}
constexpr Bytes gib{std::uint64_t{1} << 30U};

} // namespace

TEST_SUITE("migrate.progress") {
    TEST_CASE("a round is counted by class, with its rates and its end in sight") {
        tests::RecordingObserver observer;
        Progress progress{observer, gib, 100ms, test_now};
        progress.enter(formats::Phase::precopy);
        progress.begin_round(0, Bytes{4096 * 4000});
        test_time += 1s;
        progress.add_pages(PageCount{500}, PageCount{1500}, Bytes{2'100'000});
        const auto& now = observer.snapshots.back();
        CHECK(now.phase == formats::Phase::precopy);
        CHECK(now.raw_page_bytes == Bytes{500 * 4096});
        CHECK(now.zero_page_bytes == Bytes{1500 * 4096});
        CHECK(now.wire_rate == BytesPerSecond{2'100'000});
        CHECK(now.effective_rate == BytesPerSecond{2000 * 4096});
        CHECK(now.round_done == Bytes{2000 * 4096});
        REQUIRE(now.eta);
        CHECK(*now.eta == 1s);
        CHECK(now.elapsed == 1s);
        CHECK_FALSE(now.predicted_blackout);
    }

    TEST_CASE("an observer is told several times a second, not for every batch") {
        tests::RecordingObserver observer;
        Progress progress{observer, gib, 100ms, test_now};
        progress.begin_round(0, gib);
        const auto before = observer.snapshots.size();
        for (int i = 0; i < 1000; ++i) {
            test_time += 1ms;
            progress.add_pages(PageCount{1}, PageCount{0}, Bytes{4200});
        }
        CHECK(observer.snapshots.size() - before == 5);
    }

    TEST_CASE("counters' sums count once, also when the counters are new ones") {
        tests::RecordingObserver observer;
        Progress progress{observer, gib, 100ms, test_now};
        progress.begin_round(0, gib);
        progress.count({PageCount{10}, PageCount{2}, Bytes{41'000}});
        progress.count({PageCount{10}, PageCount{2}, Bytes{41'000}});
        progress.count({PageCount{15}, PageCount{3}, Bytes{62'000}});
        progress.count_anew();
        progress.count({PageCount{4}, PageCount{1}, Bytes{17'000}});
        CHECK(progress.round().raw_pages == PageCount{19});
        CHECK(progress.round().zero_pages == PageCount{4});
        CHECK(progress.round().wire_bytes == Bytes{79'000});
    }

    TEST_CASE("what is waited for is told when it is news") {
        tests::RecordingObserver observer;
        Progress progress{observer, gib, 100ms, test_now};
        const auto told = [&] {
            return std::exchange(observer.snapshots, {}).size();
        };
        (void)told();
        progress.explain("faulting", "the guest waits");
        CHECK(told() == 1);
        progress.explain("faulting", "the guest waits");
        CHECK(told() == 0);
        progress.set_missing(PageCount{7}, 1);
        CHECK(told() == 1);
        progress.set_missing(PageCount{7}, 1);
        CHECK(told() == 0);
        progress.set_missing(PageCount{7}, 0);
        CHECK(told() == 1);
    }

    TEST_CASE("the report has each round, the totals and the mean rates") {
        tests::RecordingObserver observer;
        Progress progress{observer, gib, 100ms, test_now};
        progress.begin_round(0, gib);
        progress.add_pages(PageCount{100}, PageCount{100}, Bytes{500'000});
        test_time += 2s;
        progress.end_round();
        progress.begin_round(1, gib);
        progress.add_pages(PageCount{10}, PageCount{0}, Bytes{50'000});
        test_time += 500ms;
        progress.end_round();
        progress.forecast({.total = 3s, .wire_bytes = Bytes{600'000}, .blackout = 40ms});
        progress.predict(42ms, Bytes{7'000});
        progress.blackout().stop = 1ms;
        progress.blackout().handover = 2ms;
        const Report report = progress.report();
        REQUIRE(report.rounds.size() == 2);
        CHECK(report.rounds[0].duration == 2s);
        CHECK(report.rounds[1].raw_pages == PageCount{10});
        CHECK(report.wire_bytes == Bytes{550'000});
        CHECK(report.wire_rate == BytesPerSecond{220'000});
        CHECK(report.effective_rate == BytesPerSecond{210 * 4096 * 2 / 5});
        CHECK(report.blackout.total() == 3ms);
        CHECK(report.predicted_blackout == Duration{42ms});
        CHECK(
            report.predicted_first ==
            Forecast{.total = 3s, .wire_bytes = Bytes{600'000}, .blackout = 40ms});
        CHECK(
            report.predicted_last ==
            Forecast{.total = 2542ms, .wire_bytes = Bytes{557'000}, .blackout = 42ms});
        CHECK(report.total == 2500ms);
    }

    TEST_CASE("no time means no rate") {
        CHECK(rate_of(gib, 0s) == BytesPerSecond{0});
    }
}
