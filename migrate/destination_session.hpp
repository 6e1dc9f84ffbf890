// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/cancel_gate.hpp"
#include "migrate/channel_place.hpp"
#include "migrate/operator_desk.hpp"
#include "migrate/ownership/in_doubt_guest.hpp"
#include "migrate/ownership/keeper.hpp"
#include "migrate/phase.hpp"
#include "migrate/policy.hpp"
#include "migrate/progress.hpp"
#include "migrate/reception.hpp"
#include "vmm/machine.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace wherry::migrate {

/// The VM that is about to arrive.
struct Arrival {
    std::string vm_name;
    std::string vm_id; ///< as the source says; fit to be shown, or empty
    std::string migration_id;
    std::string source_backend;
    vmm::MachineConfig config;
};

/// Makes the fresh, paused machine for an arrival whose plan has been found good.
using MachineFactory =
    std::function<formats::Result<std::unique_ptr<vmm::Machine>>(const Arrival& arrival)>;

struct DestinationOptions {
    /// What machines from `make_machine` will run on.
    vmm::BackendCapabilities host;
    MachineFactory make_machine;
    /// How much memory a new VM may take here; host_memory_headroom where unset.
    std::function<formats::Result<formats::Bytes>()> available_memory;
    /// Its deadlines and `silence` count here; the rest is the source's affair.
    Policy policy;
    ChannelThreads threads = ChannelThreads::own;
    /// Outlives the session and its outcome. Required.
    OwnershipKeeper* keeper = nullptr;
    /// The last record of this VM here, if it has any.
    std::optional<OwnershipRecord> last_record;
    /// Where a person decides, should that be necessary; outlives the session. May be null.
    OperatorDesk* desk = nullptr;
};

struct DestinationOutcome {
    /// done, abandoned, salvaged; lost: here, and it does not start; in_doubt.
    DestinationState state = DestinationState::abandoned;
    Custody custody = Custody::source;
    /// done: running, or paused if it was so at the source. in_doubt, lost, salvaged: paused.
    /// abandoned: none.
    std::unique_ptr<vmm::Machine> machine;
    std::optional<formats::Error> error;
    /// salvaged: what the machine's memory does not have.
    std::optional<dirtylog::DirtySet> missing;
    /// While in_doubt; refers to `machine`.
    std::unique_ptr<InDoubtGuest> doubt;
    /// But for the id empty when the source ended before it had said which VM it brings.
    Arrival arrival;
    /// Of the VM, once it is ours.
    Epoch epoch{};
    Report report;
};

/// Takes in the VM that has announced itself at the reception, and says what became of it. Refuses,
/// naming everything that is missing, before any machine is made. Threads, cancelling (until it has
/// accepted) and lifetimes as with run_source; the thread is also the reception's. The intake is
/// given back when the migration has ended.
transport::Task<DestinationOutcome> run_destination(
    std::unique_ptr<Intake> intake,
    DestinationOptions options,
    CancelGate& gate,
    Observer& observer);

} // namespace wherry::migrate
