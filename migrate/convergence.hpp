// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"
#include "migrate/policy.hpp"

#include <cstdint>
#include <string>

namespace wherry::migrate {

/// What a finished round has shown.
struct RoundObservation {
    /// Sent in it, on the wire.
    formats::Bytes wire_bytes;
    /// From its first page until the destination had stored all; waits for the bandwidth limit not
    /// counted, since it does not hold while the guest stands still.
    Duration duration{};
    /// What was sent, and what was dirtied meanwhile: what a next round would send.
    formats::PageCount sent, remaining;
    /// Since the start of the migration.
    Duration elapsed{};
    /// What a blackout needs beside sending pages, as far as it has been measured.
    Duration fixed_cost{};
};

/// What the first pass, which is under way, has shown so far. Pages count once.
struct PassObservation {
    /// To be sent in it, and handed out by now.
    formats::PageCount total, sent;
    /// Dirtied since it began: by half of the time that has passed, and by now.
    formats::PageCount dirtied_by_half, dirtied;
};

enum class Decision : std::uint8_t {
    again,
    switch_over,
    switch_over_late, ///< stalled or late, and the policy says to stop the guest all the same
    go_hybrid,        ///< stop the guest without its last pages, which follow it
    give_up,          ///< stalled or late, and the policy says to leave the VM where it is
};

/// Decides after each round of pre-copy. Pure: everything comes in through after_round().
///
/// Predicted blackout = remaining bytes at the measured goodput + fixed cost. Within the goal the
/// guest is stopped, but for this: while copying takes more than a quarter of the fixed cost and
/// each round halves it, up to three more rounds are cheap and spare the guest time.
///
/// Under Mode::hybrid a round is worth it as long as it is clearly cheaper than the one before it:
/// has at most half of its bytes to send. Otherwise, and behind the deadline, the guest is stopped
/// with those pages missing: the blackout is then the fixed cost. The first pass, over all memory,
/// is made to its end unless is_pass_in_vain(). Under Mode::precopy it is a stall that ends in the
/// same way, with OnStall::hybrid.
///
/// hurry() is the same at once: after the next round, however much of it was sent, the guest is
/// stopped with what fits into the goal, or else without what is missing.
///
/// A stall under OnStall::throttle raises throttle_percent(): to what should make each round half
/// as large as the one before it, by what the last round has shown, and by a tenth at least. A log
/// counts a page once, however often it was written, so the first guess is often too low.
class Convergence {
public:
    explicit Convergence(const Policy& policy) : policy_{policy} {}

    Decision after_round(const RoundObservation& round);
    /// Mode::hybrid only: this pass would leave more than a quarter of its pages to be sent twice,
    /// by how the set of dirtied pages has grown so far. A set that saturates is seen to.
    [[nodiscard]] bool is_pass_in_vain(const PassObservation& pass) const noexcept;
    /// Another policy from now on; what has been measured stays.
    void adopt(const Policy& policy);
    /// No more than one after_round() from now on: its answer is switch_over or go_hybrid.
    void hurry() noexcept { is_hurried_ = true; }
    [[nodiscard]] bool is_hurried() const noexcept { return is_hurried_; }

    /// By how much the guest is to be slowed down now; 0 to 99.
    [[nodiscard]] unsigned throttle_percent() const noexcept { return throttle_; }
    /// If the guest were stopped now, in the way that was decided on.
    [[nodiscard]] Duration predicted_blackout() const noexcept { return predicted_; }
    [[nodiscard]] BytesPerSecond goodput() const noexcept { return goodput_; }
    /// The last round ended behind the deadline.
    [[nodiscard]] bool is_late() const noexcept { return is_late_; }
    /// After give_up: the numbers, and the goal that would do. `dirty_rate` is the guest's.
    [[nodiscard]] std::string explain(BytesPerSecond dirty_rate) const;

private:
    void measure(const RoundObservation& round);
    [[nodiscard]] bool is_next_clearly_cheaper(const RoundObservation& round) const;
    [[nodiscard]] Decision go_hybrid(const RoundObservation& round);
    [[nodiscard]] Decision after_stall(const RoundObservation& round);

    Policy policy_;
    std::uint32_t rounds_ = 0;
    std::uint32_t rounds_without_gain_ = 0;
    std::uint32_t polishing_ = 0;
    unsigned throttle_ = 0;
    bool is_hurried_ = false;
    bool is_late_ = false;
    formats::PageCount best_{UINT64_MAX};
    formats::PageCount last_{UINT64_MAX};
    BytesPerSecond goodput_;
    Duration predicted_{};
};

} // namespace wherry::migrate
