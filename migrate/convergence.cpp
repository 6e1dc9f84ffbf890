// SPDX-License-Identifier: Apache-2.0
#include "migrate/convergence.hpp"

#include "migrate/progress.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

constexpr std::uint32_t polishing_limit = 3;
/// Rounds without gain that it takes to slow a guest down further: the first time asks for
/// patience, which costs nobody anything; afterwards the guest pays.
constexpr std::uint32_t stall_rounds_when_slowed = 2;
constexpr unsigned smallest_throttle_step = 10;
constexpr unsigned largest_throttle = 99;
/// A shorter round says more about delays than about throughput.
constexpr formats::Bytes measurable = formats::Bytes{std::uint64_t{8} << 20U};

Duration time_for(formats::Bytes amount, BytesPerSecond rate) {
    if (amount.value() == 0) {
        return Duration::zero();
    }
    // Nothing measured means nothing promised.
    const double per_second = static_cast<double>(std::max<std::uint64_t>(rate.value(), 1));
    const double seconds =
        std::min(static_cast<double>(amount.value()) / per_second, 86'400.0 * 365);
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

long long in_ms(Duration time) {
    return std::chrono::ceil<std::chrono::milliseconds>(time).count();
}

double in_mib(std::uint64_t bytes) {
    return static_cast<double>(bytes) / (1024.0 * 1024.0);
}

} // namespace

void Convergence::adopt(const Policy& policy) {
    policy_ = policy;
    if (policy_.on_stall != OnStall::throttle) {
        throttle_ = 0;
    }
}

void Convergence::measure(const RoundObservation& round) {
    if (round.duration <= Duration::zero() || round.wire_bytes.value() == 0) {
        return;
    }
    if (goodput_.value() == 0 || round.wire_bytes >= measurable) {
        goodput_ = rate_of(round.wire_bytes, round.duration);
    }
}

Decision Convergence::after_round(const RoundObservation& round) {
    ++rounds_;
    measure(round);
    const Duration copying = time_for(formats::bytes_of(round.remaining), goodput_);
    predicted_ = copying + round.fixed_cost;

    // A tenth fewer than ever before is a gain.
    const bool gained = round.remaining.value() / 9 < best_.value() / 10;
    rounds_without_gain_ = gained ? 0 : rounds_without_gain_ + 1;
    best_ = std::min(best_, round.remaining);
    const bool halved = round.remaining.value() <= last_.value() / 2;
    last_ = round.remaining;

    if (predicted_ <= policy_.downtime) {
        const bool is_felt = copying > round.fixed_cost / 4;
        if (is_felt && halved && polishing_ < polishing_limit && !is_hurried_) {
            ++polishing_;
            return Decision::again;
        }
        return Decision::switch_over;
    }
    if (is_hurried_) {
        return go_hybrid(round);
    }
    is_late_ = policy_.deadline && round.elapsed >= *policy_.deadline;
    if (policy_.mode == Mode::hybrid && (is_late_ || !is_next_clearly_cheaper(round))) {
        return go_hybrid(round);
    }
    const auto patience = throttle_ == 0 ? policy_.stall_rounds
                                         : std::min(policy_.stall_rounds, stall_rounds_when_slowed);
    if (rounds_ < policy_.max_rounds && rounds_without_gain_ < patience && !is_late_) {
        return Decision::again;
    }
    return after_stall(round);
}

bool Convergence::is_pass_in_vain(const PassObservation& pass) const noexcept {
    constexpr double too_much = 1.0 / 4;
    /// A burst says little: so much has really been dirtied by then.
    constexpr double enough_to_judge = 1.0 / 16;
    const auto total = static_cast<double>(pass.total.value());
    const auto dirtied = static_cast<double>(pass.dirtied.value());
    if (policy_.mode != Mode::hybrid || pass.sent.value() == 0 || pass.sent >= pass.total ||
        pass.dirtied_by_half.value() == 0 || dirtied < total * enough_to_judge) {
        return false;
    }
    // Random writes to a set of pages: in each further stretch of time as long as the last one the
    // share of new pages is smaller by the same factor.
    const auto first = static_cast<double>(pass.dirtied_by_half.value());
    double growth = dirtied - first;
    const double factor = std::min(1.0, growth / first);
    const double stretches = 2 * (total / static_cast<double>(pass.sent.value()) - 1);
    double expected = dirtied;
    for (double left = stretches; left > 0 && expected <= total * too_much; --left) {
        growth *= factor;
        if (growth < 1) {
            break;
        }
        expected += growth * std::min(1.0, left);
    }
    return expected > total * too_much;
}

bool Convergence::is_next_clearly_cheaper(const RoundObservation& round) const {
    return rounds_ < policy_.max_rounds &&
           formats::bytes_of(round.remaining) <= round.wire_bytes / 2;
}

Decision Convergence::go_hybrid(const RoundObservation& round) {
    predicted_ = round.fixed_cost;
    return Decision::go_hybrid;
}

Decision Convergence::after_stall(const RoundObservation& round) {
    if (policy_.on_stall == OnStall::hybrid) {
        return go_hybrid(round);
    }
    if (policy_.on_stall == OnStall::stop) {
        return Decision::switch_over_late;
    }
    // A slower guest makes rounds smaller, not what comes on top of the last one.
    const bool would_help = policy_.on_stall == OnStall::throttle && throttle_ < largest_throttle &&
                            round.fixed_cost < policy_.downtime;
    if (!would_help || is_late_ || rounds_ >= policy_.max_rounds) {
        return Decision::give_up;
    }
    // The guest's share of its time that would have dirtied half of what was sent.
    const double share = 100.0 - throttle_;
    const auto sent = static_cast<double>(round.sent.value());
    const auto dirtied = static_cast<double>(std::max<std::uint64_t>(round.remaining.value(), 1));
    const double wanted = 100.0 - share * std::min(1.0, sent / 2 / dirtied);
    const auto at_least = throttle_ + smallest_throttle_step;
    throttle_ = std::min(std::max(static_cast<unsigned>(wanted), at_least), largest_throttle);
    rounds_without_gain_ = 0;
    return Decision::again;
}

std::string Convergence::explain(BytesPerSecond dirty_rate) const {
    // A downtime that would have been enough now, with something to spare.
    const long long enough_ms = in_ms(predicted_ * 5 / 4);
    const std::string slowed =
        throttle_ == 0 ? std::string{} : fmt::format(", slowed down by {} %,", throttle_);
    return fmt::format(
        "after {} rounds {:.1f} MiB are left while the guest{} dirties {:.1f} MiB/s and {:.1f} "
        "MiB/s are sent, so the blackout would be {} ms with a goal of {} ms; --downtime {}ms "
        "would do",
        rounds_,
        in_mib(formats::bytes_of(last_).value()),
        slowed,
        in_mib(dirty_rate.value()),
        in_mib(goodput_.value()),
        in_ms(predicted_),
        in_ms(policy_.downtime),
        enough_ms);
}

} // namespace wherry::migrate
