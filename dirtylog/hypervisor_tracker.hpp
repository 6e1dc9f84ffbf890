// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_tracker.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace wherry::dirtylog {

/// The hypervisor's own dirty log. Sees the guest's writes, not the VMM's.
class HypervisorTracker final : public DirtyTracker {
public:
    /// `partition` and the regions' owner outlive the tracker.
    HypervisorTracker(vmm::Partition& partition, std::span<const vmm::MemoryRegion> regions);
    ~HypervisorTracker() override;

    [[nodiscard]] const std::string& name() const noexcept override { return name_; }
    formats::Status start() override;
    formats::Status collect(DirtySet& into) override;
    formats::Status stop() override;

private:
    vmm::Partition& partition_;
    std::string name_;
    std::vector<vmm::MemoryRegion> regions_;
    std::vector<std::uint64_t> words_; // of the largest region
    bool started_ = false;
};

} // namespace wherry::dirtylog
