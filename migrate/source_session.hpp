// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/cancel_gate.hpp"
#include "migrate/channel_name.hpp"
#include "migrate/channel_place.hpp"
#include "migrate/operator_desk.hpp"
#include "migrate/ownership/in_doubt_guest.hpp"
#include "migrate/ownership/keeper.hpp"
#include "migrate/phase.hpp"
#include "migrate/policy.hpp"
#include "migrate/policy_tuner.hpp"
#include "migrate/progress.hpp"
#include "transport/byte_stream.hpp"
#include "vmm/machine.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace wherry::migrate {

/// Makes the connection for a channel, on the awaiting task's executor: usually transport::connect
/// with everything bound. Called for each channel, for bulk channels on several threads at once,
/// and again for one that was lost.
using Connector = std::function<transport::Task<std::unique_ptr<transport::ByteStream>>(
    ChannelRole role, std::uint32_t index)>;

struct SourceOptions {
    std::string vm_name;
    std::string vm_id;        ///< migrate::VmId as text; sent along
    std::string migration_id; ///< unique; in messages on both sides
    /// How often the VM has changed hands so far; the destination gets the next one.
    Epoch epoch{};
    Policy policy;
    /// What decides who has the VM: "local", or a shared arbiter's name.
    std::string arbiter = "local";
    /// Outlives the session and its outcome. Required.
    OwnershipKeeper* keeper = nullptr;
    /// The last record of this VM here, if it has any.
    std::optional<OwnershipRecord> last_record;
    /// Where a person decides, should that be necessary; outlives the session. May be null.
    OperatorDesk* desk = nullptr;
    /// Where the policy may be changed while it is at work; outlives the session. May be null.
    PolicyTuner* tuner = nullptr;
    ChannelThreads threads = ChannelThreads::own;
    /// What a blackout needs beside the last pages, for the prediction, until it is measured.
    Duration fixed_cost = std::chrono::milliseconds{8};
};

struct SourceOutcome {
    /// handed_off, reclaimed, salvaged; lost: here, and it does not go on; in_doubt.
    SourceState state = SourceState::reclaimed;
    Custody custody = Custody::source;
    /// What the VM on this side is from now on: as before, or two later where it was offered and
    /// taken back, so that no message of this attempt fits the next one.
    Epoch epoch{};
    /// What went wrong; `cancelled` after a cancel. Unset: the destination runs the guest.
    std::optional<formats::Error> error;
    /// While in_doubt: the machine stays paused until this is resolved.
    std::unique_ptr<InDoubtGuest> doubt;
    Report report;
};

/// Moves the guest of `machine` to the host that `connect` reaches, and says what became of it.
/// The guest runs here (or stays paused, if it was) as long as custody is `source`, and afterwards
/// goes on with dirty tracking off. A guest that was paused arrives paused.
///
/// All on one thread, the awaiting task's, but for a worker of the session's own that copies
/// pages and makes blocking calls on the machine. Stop it with `gate` only: the task itself does
/// not react to being cancelled. Does not fail: what went wrong is in the outcome. `machine`,
/// `gate` and `observer` outlive it.
transport::Task<SourceOutcome> run_source(
    vmm::Machine& machine,
    SourceOptions options,
    Connector connect,
    CancelGate& gate,
    Observer& observer);

} // namespace wherry::migrate
