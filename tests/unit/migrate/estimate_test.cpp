// SPDX-License-Identifier: Apache-2.0
// Forecasts, compared with what becomes of writers whose every page is known.
#include "migrate/estimate.hpp"

#include "dirtylog/working_set.hpp"
#include "migrate/first_pass.hpp"

#include <array>
#include <functional>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using dirtylog::DirtySet;
using formats::Bytes;
using formats::bytes_of;
using formats::operator""_MiB;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t memory_pages = 262'144; // 1 GiB
const std::array ram{PageRange::make(Gfn{0}, PageCount{memory_pages}).value()};

double seconds(Duration time) {
    return std::chrono::duration<double>{time}.count();
}

/// A guest on a clock of its own: each page it writes is drawn by `draw`, `rate` of them a second.
class Writer {
public:
    using Draw = std::function<std::uint64_t(std::mt19937_64&)>;
    using Rate = std::function<double(Duration since_start)>;

    Writer(Draw draw, Rate rate) : draw_{std::move(draw)}, rate_{std::move(rate)} {}

    DirtySet write_for(Duration time) {
        constexpr Duration step = 1ms;
        DirtySet written{ram};
        for (const auto end = now_ + time; now_ < end;) {
            const auto lasts = std::min<Duration>(step, end - now_);
            now_ += lasts;
            due_ += rate_(now_) * seconds(lasts);
            for (; due_ >= 1; due_ -= 1) {
                written.mark(PageRange::make(Gfn{draw_(random_)}, PageCount{1}).value());
            }
        }
        return written;
    }

private:
    Draw draw_;
    Rate rate_;
    std::mt19937_64 random_{42};
    Duration now_{};
    double due_ = 0;
};

Writer::Draw within(std::uint64_t pages) {
    return [pages](std::mt19937_64& random) {
        return random() % pages;
    };
}

Writer::Rate steady(double pages_per_second) {
    return [pages_per_second](Duration) {
        return pages_per_second;
    };
}

GuestOutlook sampled(Writer& writer) {
    dirtylog::WorkingSet seen{ram};
    for (int i = 0; i < 60; ++i) {
        seen.add(writer.write_for(50ms), 50ms);
    }
    return {
        .raw_pages = PageCount{memory_pages / 2},
        .zero_pages = PageCount{memory_pages / 2},
        .dirtied = seen.curve()};
}

LinkOutlook link_of(std::uint64_t mib_per_second) {
    const BytesPerSecond rate{mib_per_second << 20U};
    return {
        .usual_rate = rate,
        .low_rate = rate,
        .zero_rate = BytesPerSecond{std::uint64_t{8} << 30U},
        .collecting = 1ms,
        .usual_fixed_cost = 8ms,
        .high_fixed_cost = 8ms};
}

/// What really becomes of it: the same rules, but every page is written.
Forecast moved(Writer& writer, const GuestOutlook& guest, const LinkOutlook& link, Policy policy) {
    Convergence convergence{policy};
    Forecast real;
    PageCount left = guest.raw_pages;
    Duration looking = std::chrono::duration_cast<Duration>(std::chrono::duration<double>{
        static_cast<double>(bytes_of(guest.zero_pages).value()) /
        static_cast<double>(link.zero_rate.value())});
    while (true) {
        RoundObservation round;
        round.sent = left;
        round.wire_bytes = bytes_of(left);
        round.duration = std::chrono::duration_cast<Duration>(std::chrono::duration<double>{
                             static_cast<double>(round.wire_bytes.value()) /
                             static_cast<double>(link.usual_rate.value())}) +
                         std::exchange(looking, {});
        const Duration lasts = round.duration + link.collecting;
        left = writer.write_for(lasts / 100 * (100 - convergence.throttle_percent())).count();
        round.remaining = left;
        real.total += lasts;
        round.elapsed = real.total;
        round.fixed_cost = link.usual_fixed_cost;
        real.wire_bytes += round.wire_bytes;
        const auto decision = convergence.after_round(round);
        if (decision != Decision::again) {
            REQUIRE(decision == Decision::switch_over);
            real.blackout = convergence.predicted_blackout();
            real.total += real.blackout;
            real.wire_bytes += bytes_of(left);
            return real;
        }
    }
}

struct BrokenOffPass {
    Duration after{};
    PageCount left;
};

/// What really becomes of a first pass under Mode::hybrid: all pages in ascending order, as many of
/// them raw as not in each stretch. Unset: it was made to its end.
std::optional<BrokenOffPass>
broken_off_pass(Writer& writer, const GuestOutlook& guest, const LinkOutlook& link) {
    Policy policy;
    policy.mode = Mode::hybrid;
    const Convergence convergence{policy};
    const auto rate_of_pages =
        static_cast<double>(link.usual_rate.value()) / static_cast<double>(formats::page_size) *
        static_cast<double>(memory_pages) / static_cast<double>(guest.raw_pages.value());
    FirstPass pass{PageCount{memory_pages}};
    DirtySet left{ram};
    Duration now{};
    while (true) {
        left.merge(writer.write_for(pass.next_look() - now));
        now = pass.next_look();
        const auto sent = static_cast<std::uint64_t>(rate_of_pages * seconds(now));
        if (sent >= memory_pages) {
            return std::nullopt;
        }
        if (pass.is_in_vain(convergence, now, PageCount{sent}, left.count())) {
            left.mark(PageRange::make(Gfn{sent}, PageCount{memory_pages - sent}).value());
            return BrokenOffPass{.after = now, .left = left.count()};
        }
    }
}

/// `said` is of that pass, and has as much left as it has: give or take this share.
void check_broken_off(
    const Course& said,
    const BrokenOffPass& real,
    const GuestOutlook& guest,
    const LinkOutlook& link,
    double tolerance) {
    const auto rate = static_cast<double>(link.usual_rate.value());
    const auto raw = static_cast<double>(bytes_of(guest.raw_pages).value());
    const auto zero = static_cast<double>(bytes_of(guest.zero_pages).value());
    const auto said_left = static_cast<double>(said.left.value());
    const double sent = seconds(real.after) * rate;
    CHECK(said.end == Decision::go_hybrid);
    CHECK(said.rounds == 1);
    CHECK(said.forecast.blackout == link.usual_fixed_cost);
    CHECK(
        static_cast<double>(said.forecast.wire_bytes.value()) ==
        doctest::Approx(sent + said_left).epsilon(0.01));
    // Zero pages that were not told are no part of it.
    const auto left = static_cast<double>(bytes_of(real.left).value()) - (1 - sent / raw) * zero;
    CHECK(said_left == doctest::Approx(left).epsilon(tolerance));
    CHECK(
        seconds(said.forecast.total) ==
        doctest::Approx(seconds(real.after + link.usual_fixed_cost) + said_left / rate)
            .epsilon(0.001));
}

Policy with(OnStall on_stall) {
    Policy policy;
    policy.on_stall = on_stall;
    return policy;
}

/// Half of the usual forecast up to the unlucky one, which lies not far above.
void check_interval(const WayOutlook& outlook, const Forecast& real) {
    REQUIRE(outlook.unlucky.arrives());
    const Forecast& usual = outlook.usual.forecast;
    const Forecast& unlucky = outlook.unlucky.forecast;
    CHECK(real.total >= usual.total / 2);
    CHECK(real.total <= unlucky.total * 21 / 20);
    CHECK(unlucky.total <= usual.total * 3);
    CHECK(real.wire_bytes >= usual.wire_bytes / 2);
    CHECK(real.wire_bytes <= unlucky.wire_bytes * 21 / 20);
    CHECK(real.blackout <= 100ms);
    CHECK(unlucky.blackout <= 100ms);
}

const WayOutlook& of(const Estimate& estimate, Way way) {
    return estimate.ways.at(static_cast<std::size_t>(way));
}

} // namespace

TEST_SUITE("migrate.estimate") {
    TEST_CASE("V08 uniform writes over all memory: the forecast holds") {
        Writer writer{within(memory_pages), steady(5'000)};
        const auto guest = sampled(writer);
        const auto link = link_of(100);
        const auto said = estimate(guest, link, {}, HybridSupport::none);
        CHECK(said.recommended == Way::precopy);
        check_interval(of(said, Way::precopy), moved(writer, guest, link, with(OnStall::abort)));
    }

    TEST_CASE("V08 a hot set: the forecast knows that it does not grow") {
        Writer writer{within(2'000), steady(50'000)};
        const auto guest = sampled(writer);
        const auto link = link_of(100);
        const auto said = estimate(guest, link, {}, HybridSupport::none);
        CHECK(said.recommended == Way::precopy);
        check_interval(of(said, Way::precopy), moved(writer, guest, link, with(OnStall::abort)));
        // By its rate it would dirty everything in the first pass.
        CHECK(of(said, Way::precopy).usual.forecast.wire_bytes < 600_MiB);
    }

    TEST_CASE("V08 a writer with phases: the unlucky forecast is of its busy ones") {
        const auto phases = [](Duration since_start) {
            return since_start % 800ms < 400ms ? 1'000.0 : 8'000.0;
        };
        Writer writer{within(memory_pages), phases};
        const auto guest = sampled(writer);
        const auto link = link_of(100);
        const auto said = estimate(guest, link, {}, HybridSupport::none);
        check_interval(of(said, Way::precopy), moved(writer, guest, link, with(OnStall::abort)));
        CHECK(
            of(said, Way::precopy).unlucky.forecast.total >
            of(said, Way::precopy).usual.forecast.total);
    }

    TEST_CASE("V08 a writer faster than the link: to be slowed down, and by about how much") {
        Writer writer{within(100'000), steady(40'000)};
        const auto guest = sampled(writer);
        const auto link = link_of(50);
        const auto said = estimate(guest, link, {}, HybridSupport::none);
        CHECK(of(said, Way::precopy).usual.end == Decision::give_up);
        CHECK(said.recommended == Way::throttle);
        CHECK(said.why.find("slowed down, by up to") != std::string::npos);
        check_interval(
            of(said, Way::throttle), moved(writer, guest, link, with(OnStall::throttle)));
    }

    TEST_CASE("where both sides can, hybrid comes before slowing a guest down") {
        Writer writer{within(100'000), steady(40'000)};
        const auto guest = sampled(writer);
        const auto link = link_of(50);
        const auto said = estimate(guest, link, {}, HybridSupport::both_sides);
        CHECK(said.recommended == Way::hybrid);
        const Course& hybrid = of(said, Way::hybrid).usual;
        CHECK(hybrid.end == Decision::go_hybrid);
        CHECK(hybrid.forecast.blackout == Duration{8ms});
        CHECK(hybrid.forecast.total < of(said, Way::throttle).usual.forecast.total);
        CHECK(said.why.find("without the last") != std::string::npos);
    }

    TEST_CASE("hybrid is one pass that is soon over, and what was dirtied in it") {
        const dirtylog::DirtyCurve dirtied{
            {{.interval = 100ms, .usual = 20'000, .high = 20'000},
             {.interval = 200ms, .usual = 20'000, .high = 20'000}},
            PageCount{memory_pages}};
        Policy policy;
        policy.mode = Mode::hybrid;
        policy.downtime = 50ms;
        auto link = link_of(1000);
        link.collecting = 0ms;
        const auto course = simulate(
            {.raw_pages = PageCount{25'600}, .zero_pages = {}, .dirtied = dirtied},
            link,
            policy,
            Likelihood::usual);
        CHECK(course.end == Decision::go_hybrid);
        CHECK(course.rounds == 1);
        CHECK(course.left == bytes_of(PageCount{20'000}));
        CHECK(course.forecast.wire_bytes == bytes_of(PageCount{45'600}));
        CHECK(seconds(course.forecast.total) == doctest::Approx(0.1 + 0.078125 + 0.008));
    }

    TEST_CASE("V04 a first pass that is in vain is broken off in the forecast as in a session") {
        struct Case {
            const char* guest;
            std::uint64_t pages;
            double rate;
            std::uint64_t link_mib;
            bool breaks_off;
        };
        const Case cases[]{
            {"half of its memory, fast", memory_pages / 2, 100'000, 100, true},
            {"all of it, so slowly that it takes some looks", memory_pages, 20'000, 20, true},
            {"all of it, so fast that the second look tells", memory_pages, 200'000, 100, true},
            {"a hot set that is soon all written", 40'000, 100'000, 100, false},
            {"over a link that carries it", memory_pages, 20'000, 2'000, false},
        };
        Policy policy;
        policy.mode = Mode::hybrid;
        for (const Case& each : cases) {
            CAPTURE(std::string{each.guest});
            Writer writer{within(each.pages), steady(each.rate)};
            auto guest = sampled(writer);
            guest.zero_pages = PageCount{memory_pages / 8};
            guest.raw_pages = PageCount{memory_pages} - guest.zero_pages;
            auto link = link_of(each.link_mib);
            link.zero_rate = BytesPerSecond{std::uint64_t{1} << 50U}; // takes no time
            link.collecting = 0ms;
            const auto real = broken_off_pass(writer, guest, link);
            REQUIRE(real.has_value() == each.breaks_off);
            const Course usual = simulate(guest, link, policy, Likelihood::usual);
            const Course unlucky = simulate(guest, link, policy, Likelihood::unlucky);
            if (real) {
                check_broken_off(usual, *real, guest, link, 0.05);
                check_broken_off(unlucky, *real, guest, link, 0.3);
                CHECK(unlucky.left >= usual.left);
            } else {
                CHECK(usual.forecast.wire_bytes >= bytes_of(guest.raw_pages));
            }
        }
    }

    TEST_CASE("V04 as an answer to a stall, hybrid makes its first pass to the end") {
        Writer writer{within(memory_pages), steady(100'000)};
        const auto guest = sampled(writer);
        Policy policy;
        policy.on_stall = OnStall::hybrid;
        const auto course = simulate(guest, link_of(50), policy, Likelihood::usual);
        CHECK(course.end == Decision::go_hybrid);
        CHECK(course.rounds > 1);
    }

    TEST_CASE(
        "a guest that writes nothing takes one pass, and a limit makes it as long as it says") {
        const GuestOutlook still{
            .raw_pages = PageCount{25'600}, .zero_pages = PageCount{0}, .dirtied = {}};
        auto link = link_of(100);
        link.collecting = 0ms;
        Policy policy;
        auto course = simulate(still, link, policy, Likelihood::usual);
        CHECK(course.end == Decision::switch_over);
        CHECK(course.rounds == 1);
        CHECK(course.forecast.wire_bytes == 100_MiB);
        CHECK(course.forecast.total == 1s + 8ms);
        policy.bandwidth = BytesPerSecond{std::uint64_t{10} << 20U};
        course = simulate(still, link, policy, Likelihood::usual);
        CHECK(course.forecast.total == 10s + 8ms);
        CHECK(course.forecast.blackout == Duration{8ms}); // the limit does not hold there
    }

    TEST_CASE("the time to connect and plan is part of it, and counts for a deadline") {
        const GuestOutlook still{
            .raw_pages = PageCount{25'600}, .zero_pages = PageCount{0}, .dirtied = {}};
        auto link = link_of(100);
        link.collecting = 0ms;
        link.opening = 500ms;
        Policy policy;
        CHECK(simulate(still, link, policy, Likelihood::usual).forecast.total == 1508ms);
        policy.downtime = 5ms; // never within it
        policy.deadline = 1400ms;
        policy.on_stall = OnStall::abort;
        CHECK(simulate(still, link, policy, Likelihood::usual).rounds == 1);
        link.opening = 0ms;
        CHECK(simulate(still, link, policy, Likelihood::usual).rounds > 1);
    }

    TEST_CASE("where no way is within the goal, the sentence has one that would be") {
        Policy policy;
        policy.downtime = 5ms; // less than the fixed cost
        const auto said = estimate(
            {.raw_pages = PageCount{1000}, .zero_pages = PageCount{0}, .dirtied = {}},
            link_of(100),
            policy,
            HybridSupport::none);
        CHECK_FALSE(said.recommended);
        CHECK(said.why.find("--downtime 10ms would do") != std::string::npos);
    }

    TEST_CASE("the unlucky course is never better than the usual one") {
        Writer writer{within(100'000), steady(20'000)};
        const auto guest = sampled(writer);
        for (const std::uint64_t rate : {10U, 30U, 50U, 80U, 200U}) {
            for (const auto& way : estimate(guest, link_of(rate), {}, HybridSupport::none).ways) {
                CHECK(way.unlucky.forecast.total >= way.usual.forecast.total);
                CHECK(way.unlucky.forecast.wire_bytes >= way.usual.forecast.wire_bytes);
                CHECK(way.unlucky.forecast.blackout >= way.usual.forecast.blackout);
            }
        }
    }

    TEST_CASE("the first pass alone tells of the rest") {
        RoundObservation seen;
        seen.wire_bytes = 100_MiB;
        seen.sent = PageCount{25'600};
        seen.duration = 1s;
        seen.elapsed = 1100ms;
        seen.remaining = PageCount{6'400};
        seen.fixed_cost = 8ms;
        // 25 MiB left, then a quarter of it, a quarter of that: 1 MiB would take 63 ms, and does.
        const auto said = forecast_after_first_pass(seen, {});
        CHECK(said.blackout <= Duration{100ms});
        CHECK(seconds(said.total) == doctest::Approx(1.1 + 1.0 / 3).epsilon(0.05));
        CHECK(
            static_cast<double>(said.wire_bytes.value()) ==
            doctest::Approx(static_cast<double>((100_MiB).value()) * 4 / 3).epsilon(0.05));
    }

    TEST_CASE("a first pass that took no time does not stop the forecast") {
        RoundObservation seen;
        seen.remaining = PageCount{10};
        seen.fixed_cost = 8ms;
        CHECK(forecast_after_first_pass(seen, {}).blackout >= Duration{8ms});
    }
}
