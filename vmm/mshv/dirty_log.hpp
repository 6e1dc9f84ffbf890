// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/mshv/descriptor.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::mshv {

/// The hypervisor's record of which guest pages were accessed and written. Bits are per 4 KiB page
/// and stand for writes by the guest and, on its behalf, by the hypervisor; not for those through
/// the host's mapping, nor to pages that lie over guest memory.
///
/// Not documented: whether a page keeps its bit when the host's kernel moves it (compaction, huge
/// page collapse). The kernel takes the page away and maps it again at the next access, so that a
/// write after it is seen in any case; guest memory is a memfd, which none of these moves unasked.
class DirtyLog {
public:
    explicit DirtyLog(const Descriptor& partition) noexcept : partition_{partition} {}

    /// All mapped memory, read-only ranges included. Before the first start.
    void cover(std::span<const MemoryRegion> regions);

    formats::Status start();
    /// Sets every bit, without which the hypervisor does not let go, then ends the record.
    formats::Status stop();
    /// See Partition::fetch_dirty_log. After an error bits are lost: everything may be dirty.
    formats::Status fetch(formats::PageRange region, std::span<std::uint64_t> bitmap);

    /// Adds to `bitmap` the pages of a region that were accessed since their bits were last
    /// cleared, and changes none: for estimates of a working set. Started only.
    formats::Status peek_accessed(formats::PageRange region, std::span<std::uint64_t> bitmap) const;

private:
    formats::Status
    sweep(formats::PageRange region, std::uint8_t operation, std::span<std::uint64_t> bitmap) const;
    formats::Status sweep_all(std::uint8_t operation) const;
    formats::Status track(std::uint64_t how) const;
    formats::Status check(formats::PageRange region, std::span<const std::uint64_t> bitmap) const;

    const Descriptor& partition_;
    std::vector<formats::PageRange> regions_;
    bool is_started_ = false;
};

} // namespace wherry::vmm::mshv
