// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::kvm {

/// How the VM's dirty log is cleared, and pages protected again that it is to see written.
enum class LogClearing : std::uint8_t {
    by_reading, ///< a read clears it, and protects
    /// By KVM_CLEAR_DIRTY_LOG: a fetch protects only the pages that it reports, and only after they
    /// were read out.
    apart,
    /// The same, and it begins with every page set and none protected: so that this too is done in
    /// parts, between which vCPUs can fault.
    apart_from_the_start,
};

/// The memory slots of a VM, one per region, and their dirty log. On the machine's thread.
class MemorySlots {
public:
    MemorySlots(int vm, LogClearing clearing) : vm_{vm}, clearing_{clearing} {}

    formats::Status map(const GuestMemory& memory);
    formats::Status start_log();
    /// The slots lose their flag, the kernel its bitmaps: the guest writes at full speed again.
    formats::Status stop_log();
    formats::Status fetch(formats::PageRange region, std::span<std::uint64_t> bitmap);

private:
    formats::Status set(std::uint32_t slot, std::uint32_t flags);
    formats::Status set_all(std::uint32_t flags);
    formats::Status protect_all();
    formats::Status clear(std::uint32_t slot, std::span<std::uint64_t> bitmap);
    int vm_;
    LogClearing clearing_;
    bool logging_ = false;
    std::vector<MemoryRegion> regions_; // the index is the slot's number
};

} // namespace wherry::vmm::kvm
