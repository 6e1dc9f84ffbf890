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
    /// Dirtied meanwhile: what a next round would send.
    formats::PageCount remaining;
    /// What a blackout needs beside sending pages, as far as it has been measured.
    Duration fixed_cost{};
};

enum class Decision : std::uint8_t {
    again,
    switch_over,
    switch_over_late, ///< stalled, and the policy says to stop the guest all the same
    give_up,          ///< stalled, and the policy says to leave the VM where it is
};

/// Decides after each round of pre-copy. Pure: everything comes in through after_round().
///
/// Predicted blackout = remaining bytes at the measured goodput + fixed cost. Within the goal the
/// guest is stopped, but for this: while copying is the larger part of the blackout and each round
/// halves it, up to three more rounds are cheap and spare the guest time.
class Convergence {
public:
    explicit Convergence(const Policy& policy);

    Decision after_round(const RoundObservation& round);

    [[nodiscard]] Duration predicted_blackout() const noexcept { return predicted_; }
    [[nodiscard]] BytesPerSecond goodput() const noexcept { return goodput_; }
    /// After give_up: one sentence with the numbers and the remedies. `dirty_rate` is the guest's.
    [[nodiscard]] std::string explain(BytesPerSecond dirty_rate) const;

private:
    void measure(const RoundObservation& round);

    Duration goal_;
    OnStall on_stall_;
    std::uint32_t stall_rounds_;
    std::uint32_t max_rounds_;
    std::uint32_t rounds_ = 0;
    std::uint32_t rounds_without_gain_ = 0;
    std::uint32_t polishing_ = 0;
    formats::PageCount best_{UINT64_MAX};
    formats::PageCount last_{UINT64_MAX};
    BytesPerSecond goodput_;
    Duration predicted_{};
};

} // namespace wherry::migrate
