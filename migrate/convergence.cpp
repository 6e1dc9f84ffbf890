// SPDX-License-Identifier: Apache-2.0
#include "migrate/convergence.hpp"

#include "migrate/progress.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

constexpr std::uint32_t polishing_limit = 3;
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

Convergence::Convergence(const Policy& policy)
    : goal_{policy.downtime},
      on_stall_{policy.on_stall},
      stall_rounds_{policy.stall_rounds},
      max_rounds_{policy.max_rounds} {}

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

    if (predicted_ <= goal_) {
        if (copying > round.fixed_cost && halved && polishing_ < polishing_limit) {
            ++polishing_;
            return Decision::again;
        }
        return Decision::switch_over;
    }
    if (rounds_ < max_rounds_ && rounds_without_gain_ < stall_rounds_) {
        return Decision::again;
    }
    return on_stall_ == OnStall::stop ? Decision::switch_over_late : Decision::give_up;
}

std::string Convergence::explain(BytesPerSecond dirty_rate) const {
    // A downtime that would have been enough now, with something to spare.
    const long long enough_ms = in_ms(predicted_ * 5 / 4);
    return fmt::format(
        "the migration does not converge: after {} rounds {:.1f} MiB are left while the guest "
        "dirties {:.1f} MiB/s and {:.1f} MiB/s get across, so the blackout would be {} ms with a "
        "goal of {} ms; --downtime {}ms would do, --on-stall stop accepts any blackout",
        rounds_,
        in_mib(formats::bytes_of(last_).value()),
        in_mib(dirty_rate.value()),
        in_mib(goodput_.value()),
        in_ms(predicted_),
        in_ms(goal_),
        enough_ms);
}

} // namespace wherry::migrate
