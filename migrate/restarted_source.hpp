// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/cancel_gate.hpp"
#include "migrate/operator_desk.hpp"
#include "migrate/ownership/keeper.hpp"
#include "migrate/ownership/source_owner.hpp"
#include "migrate/policy.hpp"
#include "migrate/progress.hpp"
#include "migrate/source_session.hpp"

#include <functional>
#include <optional>
#include <string>

namespace wherry::migrate {

struct RestartedSourceOptions {
    /// OFFERED or COMMITTED.
    OwnershipRecord last;
    std::string vm_id;
    /// Its `silence` counts, and how long is waited for what.
    Policy policy;
    /// Outlives the task. Required.
    OwnershipKeeper* keeper = nullptr;
    /// Where a person decides; outlives the task. May be null.
    OperatorDesk* desk = nullptr;
    /// Boots the VM afresh once it is known to be this side's; blocks, on a thread of its own.
    /// Required.
    std::function<formats::Status()> boot;
};

struct RestartedSourceOutcome {
    /// handed_off: the destination has it. reclaimed: booted here. lost: this side's, and it does
    /// not start. Any other: it was stopped before that was known.
    SourceOwnerState state{};
    Epoch epoch{};
    std::string sentence;
};

/// Finds out which side has a VM whose process ended in the middle of its hand-over: asks the
/// destination, and the arbiter, with back-off and for as long as it takes, or until a person
/// decides or the gate is asked. Goes on after a boot until a destination that may hold a copy has
/// heard of it. Tells the observer where it stands. Does not fail, and does not react to being
/// cancelled.
transport::Task<RestartedSourceOutcome> settle_restarted_source(
    RestartedSourceOptions options, Connector connect, CancelGate& gate, Observer& observer);

} // namespace wherry::migrate
