// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/postcopy/fault_placement.hpp"
#include "migrate/postcopy/fault_queue.hpp"
#include "migrate/progress.hpp"
#include "vmm/fault_source.hpp"
#include "vmm/machine.hpp"

#include <functional>
#include <memory>

namespace wherry::migrate {

/// The memory of a guest that runs, or is about to, while some of its pages are missing.
class ArrivingMemory final : private vmm::FaultListener {
public:
    /// Arms `missing`: from here on whoever touches one of these pages waits. Blocks; nothing of
    /// the guest has run. `before` is as FaultSource::arm() has it. `machine` outlives it.
    /// `on_fault` and `on_complete` may come on any thread: somebody waits for a page; the last
    /// page is there.
    static formats::Result<std::unique_ptr<ArrivingMemory>>
    arm(vmm::Machine& machine,
        const dirtylog::DirtySet& missing,
        vmm::MemoryBefore before,
        std::function<void()> on_fault,
        std::function<void()> on_complete);
    /// With pages missing: only once the guest will not run here.
    ~ArrivingMemory() = default;

    /// As FaultSource::narrow().
    formats::Status narrow(const dirtylog::DirtySet& missing);
    [[nodiscard]] FaultPlacement& placement() noexcept { return placement_; }
    [[nodiscard]] FaultQueue& queue() noexcept { return queue_; }
    [[nodiscard]] formats::PageCount missing_count() const noexcept { return source_->missing(); }
    [[nodiscard]] dirtylog::DirtySet missing() const;
    [[nodiscard]] FaultReport report() const;
    /// Nothing is missing any more: as if nothing ever had been.
    formats::Status disarm() { return source_->disarm(); }

private:
    ArrivingMemory(
        vmm::Machine& machine,
        std::unique_ptr<vmm::FaultSource> source,
        std::function<void()> on_fault,
        std::function<void()> on_complete);
    void wanted(formats::PageRange pages) noexcept override { queue_.wanted(pages); }

    vmm::Machine& machine_;
    FaultQueue queue_;
    std::unique_ptr<vmm::FaultSource> source_; ///< calls us
    FaultPlacement placement_;
};

} // namespace wherry::migrate
