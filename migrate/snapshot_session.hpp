// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/cancel_gate.hpp"
#include "migrate/image/description.hpp"
#include "migrate/image/image_chain.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/image_writer.hpp"
#include "migrate/policy.hpp"
#include "migrate/progress.hpp"
#include "transport/task.hpp"
#include "vmm/machine.hpp"

#include <cstdint>
#include <memory>
#include <optional>

namespace wherry::migrate {

enum class SnapshotWay : std::uint8_t {
    paused, ///< the guest stands still while its memory is written
    live,   ///< it runs, but for one short stop at the end
};

struct SnapshotOptions {
    SnapshotWay way = SnapshotWay::live;
    /// Of a live one: `downtime`, and what follows a stall: `throttle` or `stop`.
    Policy policy;
    /// What the image says of the VM: its name, id, epoch and arbiter. The rest is filled in.
    ImageDescription description;
    /// How it is written; whether pages may come again and what it is based on is filled in.
    ImageOptions image;
    /// An image of a guest with the same RAM: only what differs from it is written. Null: all is.
    /// Nobody else uses it meanwhile.
    std::shared_ptr<ImageChain> base;
    /// What the blackout takes beside copying the last pages, as far as it is known beforehand:
    /// stopping the vCPUs, saving and starting them.
    Duration fixed_cost = std::chrono::milliseconds{5};
};

struct SnapshotOutcome {
    /// Unset: the image is whole, and durable where it can be. Else there is none.
    std::optional<formats::Error> error;
    Report report; ///< what is on the wire there, is in the file here
};

/// Writes the guest of `machine` to `sink`, as an image of a whole guest. A guest that was paused
/// stays so, also when it is restored. Live: rounds as in pre-copy, each behind the other in the
/// file; once the last pages can be copied within the goal, the guest is stopped, they are copied
/// to memory and its state is saved; it goes on, and they are written then.
///
/// Whatever way it ends, the guest goes on if it ran, untracked and at full speed. Cancel it with
/// `gate`, which it closes before it makes the image whole.
///
/// On the awaiting task's thread, but for a worker of its own that makes the blocking calls.
/// `machine` (whose only tracker this is), `gate` and `observer` outlive it.
transport::Task<SnapshotOutcome> run_snapshot(
    vmm::Machine& machine,
    SnapshotOptions options,
    std::unique_ptr<ImageSink> sink,
    CancelGate& gate,
    Observer& observer);

} // namespace wherry::migrate
