// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_tracker.hpp"
#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/unique_fd.hpp"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace wherry::dirtylog {

/// Dirty pages from the kernel's page tables, without a hypervisor: userfaultfd write protection
/// in asynchronous mode (the kernel lifts it at the first write, no message, no privilege) and the
/// PAGEMAP_SCAN ioctl, which reads and renews it in one step. Linux 6.7 or newer.
///
/// Sees every write through this process's mapping of the regions: of a guest on any engine, of
/// devices, of system calls. Not those through other mappings of the same memfd.
class UserfaultTracker final : public DirtyTracker {
    class Opened { // only open() can make one
        friend UserfaultTracker;
        Opened() = default;
    };

public:
    /// `unsupported` or `permission`, saying what is missing, where this host cannot do it.
    static formats::Result<std::unique_ptr<UserfaultTracker>>
    open(std::span<const vmm::MemoryRegion> regions);
    UserfaultTracker(Opened, std::span<const vmm::MemoryRegion> regions, vmm::UniqueFd pagemap);
    ~UserfaultTracker() override;

    [[nodiscard]] const std::string& name() const noexcept override { return name_; }
    formats::Status start() override;
    formats::Status collect(DirtySet& into) override;
    formats::Status stop() override;

private:
    struct Scan; // buffer of PAGEMAP_SCAN

    formats::Status protect(const vmm::MemoryRegion& region);
    formats::Status scan(const vmm::MemoryRegion& region, DirtySet& into);

    std::string name_ = "userfaultfd";
    std::vector<vmm::MemoryRegion> regions_;
    vmm::UniqueFd pagemap_;
    vmm::UniqueFd userfault_; // open while started
    std::unique_ptr<Scan> scan_;
};

} // namespace wherry::dirtylog
