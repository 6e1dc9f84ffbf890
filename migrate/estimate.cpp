// SPDX-License-Identifier: Apache-2.0
#include "migrate/estimate.hpp"

#include "migrate/first_pass.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::PageCount;
using std::chrono::duration_cast;

constexpr double longest_s = 86'400.0 * 365;

Duration time_for(Bytes amount, BytesPerSecond rate) {
    if (amount.value() == 0) {
        return Duration::zero();
    }
    const double per_second = static_cast<double>(std::max<std::uint64_t>(rate.value(), 1));
    const double seconds = std::min(static_cast<double>(amount.value()) / per_second, longest_s);
    return duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

PageCount part_of(PageCount pages, double share) {
    return PageCount{static_cast<std::uint64_t>(static_cast<double>(pages.value()) * share)};
}

long long in_ms(Duration time) {
    return std::chrono::ceil<std::chrono::milliseconds>(time).count();
}

double in_mib(Bytes bytes) {
    return static_cast<double>(bytes.value()) / (1024.0 * 1024.0);
}

/// One migration under way in the imagination. Rounds cost what their bytes cost: headers, some
/// thousandths of them, are left out.
class Simulation {
public:
    struct Conditions {
        BytesPerSecond rate, zero_rate;
        Duration opening{};
        Duration collecting{};
        Duration fixed_cost{};
    };

    Simulation(
        const dirtylog::DirtyCurve& dirtied,
        const Conditions& conditions,
        const Policy& policy,
        Likelihood luck)
        : dirtied_{dirtied},
          conditions_{conditions},
          policy_{policy},
          luck_{luck},
          convergence_{policy},
          elapsed_{conditions.opening} {}

    Course run(PageCount raw, PageCount zero) { return go_on_from(first_pass(raw, zero)); }

    /// As run, with a first round that was real.
    Course go_on_from(const RoundObservation& seen) {
        auto decision = after(seen);
        while (decision == Decision::again) {
            decision = after(round_of(left_, PageCount{0}));
        }
        return concluded(decision);
    }

private:
    RoundObservation round_of(PageCount raw, PageCount zero) {
        RoundObservation round;
        round.wire_bytes = formats::bytes_of(raw);
        const Duration sending = time_for(round.wire_bytes, conditions_.rate);
        const Duration looking = time_for(formats::bytes_of(zero), conditions_.zero_rate);
        round.duration = sending + looking;
        const Duration lasts =
            limited(round.wire_bytes, sending) + looking + conditions_.collecting;
        round.sent = raw + zero;
        round.remaining = dirtied_in(lasts);
        round.elapsed = elapsed_ + lasts;
        round.fixed_cost = conditions_.fixed_cost;
        return round;
    }

    /// The same looks at what is dirtied meanwhile as a session has, with the same consequence.
    RoundObservation first_pass(PageCount raw, PageCount zero) {
        const RoundObservation whole = round_of(raw, zero);
        const Duration lasts = whole.elapsed - elapsed_ - conditions_.collecting;
        FirstPass pass{whole.sent};
        for (Duration at = pass.next_look(); at < lasts; at = pass.next_look()) {
            const double share = share_of(at, lasts);
            const PageCount sent = part_of(raw, share) + part_of(zero, share);
            if (pass.is_in_vain(convergence_, at, sent, dirtied_in(at))) {
                convergence_.hurry();
                return broken_off(raw, zero, at, lasts);
            }
        }
        return whole;
    }

    /// What was not sent is left as well as what was dirtied. Zero pages are told then, for
    /// nothing.
    RoundObservation broken_off(PageCount raw, PageCount zero, Duration at, Duration lasts) {
        const double share = share_of(at, lasts);
        RoundObservation round = round_of(part_of(raw, share), part_of(zero, share));
        round.elapsed = elapsed_ + at + conditions_.collecting;
        const PageCount dirtied = dirtied_in(at + conditions_.collecting);
        // A page that is dirtied before its turn is left once. With bad luck there is none.
        const PageCount again =
            std::min(luck_ == Likelihood::usual ? part_of(dirtied, share) : dirtied, round.sent);
        untold_zero_ = zero - part_of(zero, share);
        round.remaining = raw + zero - round.sent + again;
        return round;
    }

    static double share_of(Duration part, Duration whole) {
        return std::chrono::duration<double>{part} / std::chrono::duration<double>{whole};
    }

    Decision after(const RoundObservation& round) {
        ++rounds_;
        elapsed_ = round.elapsed;
        wire_ += round.wire_bytes;
        left_ = round.remaining;
        return convergence_.after_round(round);
    }

    Course concluded(Decision decision) {
        const Bytes left = formats::bytes_of(left_ - untold_zero_);
        Course course{
            .forecast =
                {.total = elapsed_,
                 .wire_bytes = wire_,
                 .blackout = convergence_.predicted_blackout()},
            .end = decision,
            .rounds = rounds_,
            .throttle_percent = convergence_.throttle_percent(),
            .left = left};
        if (decision != Decision::give_up) {
            course.forecast.total += course.forecast.blackout;
            course.forecast.wire_bytes += left;
        }
        if (decision == Decision::go_hybrid) { // the rest follows at its own pace
            course.forecast.total +=
                limited(left, time_for(left, conditions_.rate)) +
                time_for(formats::bytes_of(untold_zero_), conditions_.zero_rate);
        }
        return course;
    }

    /// No faster than the limit on what is sent while the guest runs.
    [[nodiscard]] Duration limited(Bytes bytes, Duration sending) const {
        return policy_.bandwidth ? std::max(sending, time_for(bytes, *policy_.bandwidth)) : sending;
    }

    [[nodiscard]] PageCount dirtied_in(Duration time) const {
        const Duration awake = time / 100 * (100 - convergence_.throttle_percent());
        return luck_ == Likelihood::usual ? dirtied_.usual_in(awake) : dirtied_.high_in(awake);
    }

    const dirtylog::DirtyCurve& dirtied_;
    Conditions conditions_;
    const Policy& policy_;
    Likelihood luck_;
    Convergence convergence_;
    Duration elapsed_;
    Bytes wire_;
    PageCount left_;
    PageCount untold_zero_; ///< of `left_`: of a first pass that was broken off
    std::uint32_t rounds_ = 0;
};

Policy policy_for(Way way, Policy policy) {
    policy.mode = way == Way::hybrid ? Mode::hybrid : Mode::precopy;
    policy.on_stall = way == Way::throttle ? OnStall::throttle : OnStall::abort;
    return policy;
}

bool is_offered(Way way, HybridSupport support) {
    return way != Way::hybrid || support == HybridSupport::both_sides;
}

/// The gentlest that gets the VM across even with bad luck; else the one that does with the usual.
std::optional<Way> recommend(std::span<const WayOutlook> ways, HybridSupport support) {
    constexpr std::array order{Way::precopy, Way::hybrid, Way::throttle};
    for (const auto course : {&WayOutlook::unlucky, &WayOutlook::usual}) {
        for (const Way way : order) {
            const auto found = std::ranges::find(ways, way, &WayOutlook::way);
            if (is_offered(way, support) && ((*found).*course).arrives()) {
                return way;
            }
        }
    }
    return std::nullopt;
}

std::string explain(
    std::span<const WayOutlook> ways,
    std::optional<Way> recommended,
    const Policy& policy,
    HybridSupport support) {
    const auto of = [ways](Way way) -> const WayOutlook& {
        return *std::ranges::find(ways, way, &WayOutlook::way);
    };
    const Course& precopy = of(Way::precopy).unlucky;
    const auto goal = in_ms(policy.downtime);
    // A downtime that would have been enough at the end, with something to spare.
    const auto enough = in_ms(precopy.forecast.blackout * 5 / 4);
    if (!recommended) {
        return fmt::format(
            "no way brings the blackout within the goal of {} ms; --downtime {}ms would do",
            goal,
            enough);
    }
    switch (*recommended) {
    case Way::precopy:
        return fmt::format(
            "rounds get smaller by themselves: after {} of them the blackout is {} ms with bad "
            "luck, within the goal of {} ms",
            precopy.rounds,
            in_ms(precopy.forecast.blackout),
            goal);
    case Way::hybrid:
        return fmt::format(
            "rounds stop getting smaller at a blackout of {} ms with a goal of {} ms, and going on "
            "at the destination without the last {:.0f} MiB slows the guest least",
            in_ms(precopy.forecast.blackout),
            goal,
            in_mib(of(Way::hybrid).unlucky.left));
    case Way::throttle:
        break;
    }
    return fmt::format(
        "rounds stop getting smaller at a blackout of {} ms with a goal of {} ms, so the guest has "
        "to be slowed down, by up to {} %; --downtime {}ms would spare it that{}",
        in_ms(precopy.forecast.blackout),
        goal,
        std::max(
            of(Way::throttle).usual.throttle_percent, of(Way::throttle).unlucky.throttle_percent),
        enough,
        is_offered(Way::hybrid, support) ? "" : ", and hybrid would if this version had it");
}

} // namespace

std::string_view name_of(Way way) noexcept {
    switch (way) {
    case Way::precopy:
        return "precopy";
    case Way::throttle:
        return "throttle";
    case Way::hybrid:
        return "hybrid";
    }
    return "precopy";
}

Course simulate(
    const GuestOutlook& guest, const LinkOutlook& link, const Policy& policy, Likelihood luck) {
    const bool usual = luck == Likelihood::usual;
    Simulation simulation{
        guest.dirtied,
        {.rate = usual ? link.usual_rate : link.low_rate,
         .zero_rate = link.zero_rate,
         .opening = link.opening,
         .collecting = link.collecting,
         .fixed_cost = usual ? link.usual_fixed_cost : link.high_fixed_cost},
        policy,
        luck};
    return simulation.run(guest.raw_pages, guest.zero_pages);
}

Forecast forecast_after_first_pass(const RoundObservation& seen, const Policy& policy) {
    const BytesPerSecond rate = rate_of(seen.wire_bytes, seen.duration);
    std::vector<dirtylog::DirtyCurve::Point> points;
    const Duration took =
        policy.bandwidth ? std::max(seen.duration, time_for(seen.wire_bytes, *policy.bandwidth))
                         : seen.duration;
    if (took > Duration::zero()) {
        const auto pages = static_cast<double>(seen.remaining.value());
        points.push_back({.interval = took, .usual = pages, .high = pages});
    }
    const dirtylog::DirtyCurve dirtied{std::move(points), seen.sent + seen.remaining};
    Simulation simulation{
        dirtied,
        {.rate = rate,
         .zero_rate = BytesPerSecond{1},
         .opening = Duration::zero(),
         .collecting = Duration::zero(),
         .fixed_cost = seen.fixed_cost},
        policy,
        Likelihood::usual};
    return simulation.go_on_from(seen).forecast;
}

Estimate estimate(
    const GuestOutlook& guest,
    const LinkOutlook& link,
    const Policy& policy,
    HybridSupport support) {
    Estimate result;
    for (const Way way : {Way::precopy, Way::throttle, Way::hybrid}) {
        const Policy asked = policy_for(way, policy);
        WayOutlook outlook{
            .way = way,
            .usual = simulate(guest, link, asked, Likelihood::usual),
            .unlucky = simulate(guest, link, asked, Likelihood::unlucky)};
        // Bad luck can end a migration early, which is no good news.
        const Forecast& usual = outlook.usual.forecast;
        Forecast& unlucky = outlook.unlucky.forecast;
        unlucky.total = std::max(unlucky.total, usual.total);
        unlucky.wire_bytes = std::max(unlucky.wire_bytes, usual.wire_bytes);
        unlucky.blackout = std::max(unlucky.blackout, usual.blackout);
        result.ways.push_back(outlook);
    }
    result.recommended = recommend(result.ways, support);
    result.why = explain(result.ways, result.recommended, policy, support);
    return result;
}

} // namespace wherry::migrate
