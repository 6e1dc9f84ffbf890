// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/cancel_gate.hpp"
#include "migrate/estimate.hpp"
#include "migrate/policy.hpp"
#include "migrate/probe.hpp"
#include "migrate/progress.hpp"
#include "transport/task.hpp"
#include "vmm/machine.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace wherry::migrate {

/// What a migration that has been has shown of the ways to other hosts.
struct KnownLink {
    BytesPerSecond usual, low; ///< on the wire, over all rounds and in the slowest
    /// Of its blackout beside the pages; unset where this side did not see it.
    std::optional<Duration> fixed_cost;
};
/// Unset where too little was sent to tell.
std::optional<KnownLink> link_of(const Report& report);

struct EstimationOptions {
    /// How long the guest is watched: 500 ms to a minute.
    Duration for_time = std::chrono::seconds{3};
    /// Goal and limit are looked at, mode and on_stall not.
    Policy policy;
    std::optional<KnownLink> known_link;
    /// What this host can do. Both count where there is a destination.
    HybridSupport support = HybridSupport::none;
    /// To be asked first, and the link to it measured. Its policy is this one's, and its plan is
    /// filled in but for the names. Unset: nobody is asked.
    std::optional<ProbeOptions> destination;

    /// Names the first value that cannot be.
    [[nodiscard]] formats::Status check() const;
};

/// Where the rate of an Estimation comes from.
enum class RateSource : std::uint8_t {
    probe,          ///< measured to the destination that was asked
    limit,          ///< the policy's: the link is taken to be no faster
    last_migration, ///< of this VM
    this_host,      ///< what a core here can copy, digest and encrypt: an upper bound
};

struct Estimation {
    Estimate estimate;
    GuestOutlook guest;
    LinkOutlook link;
    RateSource rate_source = RateSource::this_host;
    std::optional<ProbeOutcome> probe;
    Policy policy;              ///< what was asked about
    std::string tracker;        ///< what saw the writes
    Duration watched{};         ///< for how long
    formats::PageCount written; ///< different pages in that time
};

/// Watches the guest of `machine`, which goes on, through its dirty log, and predicts its
/// migration. Nothing is moved, and nobody connected to but the destination in the options; where
/// that would refuse the VM, nothing is recommended, and `why` is its reasons. Whatever way it
/// ends, tracking is off again. Stop it with `gate` only: it then fails as `cancelled`.
///
/// On the awaiting task's thread, but for a worker of its own that makes the blocking calls.
/// `machine` (whose only tracker this is), `gate` and `observer` outlive it.
/// `observer` hears of a destination's findings as soon as they are there, each objection and what
/// stands against hybrid among them.
transport::Task<Estimation> run_estimation(
    vmm::Machine& machine, EstimationOptions options, CancelGate& gate, Observer& observer);

} // namespace wherry::migrate
