// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/descriptor.hpp"
#include "vmm/partition.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace wherry::vmm::mshv {

/// The reference time of a partition. It is frozen at birth, for saving, and for restoring, and
/// thawed when a vCPU is about to run; then it has advanced by the real time that passed. What
/// the hypervisor's timers do stands still with it, which keeps a state of several parts whole.
///
/// Not documented is whether the freeze also stops TSC and APIC timers; the TSC is looked at, see
/// tsc.hpp, and a timer that fires between two parts of a save is found in neither or both of its
/// effects, as on other hypervisors.
class PartitionTime {
public:
    /// The descriptor of the partition, which outlives this.
    explicit PartitionTime(const Descriptor& partition) noexcept : partition_{partition} {}

    /// vCPUs stand still, here and in the next two.
    formats::Status freeze();
    formats::Result<PartitionClock> save();
    formats::Status restore(const PartitionClock& clock);
    /// Any thread, before each RUN_VP of a run; does nothing where time runs.
    formats::Status thaw();

    /// The host's TSC at the last save.
    [[nodiscard]] std::uint64_t saved_at() const noexcept { return saved_at_; }
    /// What passed between the freeze (or the last restore) and the last save.
    [[nodiscard]] std::chrono::nanoseconds frozen_until_save() const noexcept;
    /// The last restore: when, and how much had passed since the save then.
    struct Anchor {
        std::uint64_t host_tsc = 0;
        std::chrono::nanoseconds elapsed{0};
    };
    [[nodiscard]] const Anchor& anchor() const noexcept { return anchor_; }

private:
    formats::Status freeze_locked();
    formats::Status write(std::chrono::nanoseconds reference) const;

    const Descriptor& partition_;
    std::mutex lock_;
    std::atomic<bool> is_frozen_ = false;
    /// Reference time while frozen, and the real time for which it was right.
    PartitionClock frozen_;
    std::chrono::nanoseconds saved_real_time_{0};
    std::uint64_t saved_at_ = 0;
    Anchor anchor_;
};

} // namespace wherry::vmm::mshv
