// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::kvm {

/// The memory slots of a VM, one per region, and their dirty log. On the machine's thread.
class MemorySlots {
public:
    /// `clears_apart`: KVM_CLEAR_DIRTY_LOG is enabled, so that a fetch protects only the pages
    /// it reports and only after they were read out.
    MemorySlots(int vm, bool clears_apart) : vm_{vm}, clears_apart_{clears_apart} {}

    formats::Status map(const GuestMemory& memory);
    formats::Status start_log();
    /// The slots lose their flag, the kernel its bitmaps: the guest writes at full speed again.
    formats::Status stop_log();
    formats::Status fetch(formats::PageRange region, std::span<std::uint64_t> bitmap);

private:
    formats::Status set(std::uint32_t slot, std::uint32_t flags);
    formats::Status set_all(std::uint32_t flags);
    int vm_;
    bool clears_apart_;
    bool logging_ = false;
    std::vector<MemoryRegion> regions_; // the index is the slot's number
};

} // namespace wherry::vmm::kvm
