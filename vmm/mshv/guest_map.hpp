// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/mshv/descriptor.hpp"

#include <mutex>
#include <vector>

namespace wherry::vmm::mshv {

/// Which guest pages the hypervisor has a mapping for. The kernel takes a mapping away only whole,
/// as it was made: hence pieces. Thread-safe.
class GuestMap {
public:
    explicit GuestMap(const Descriptor& partition) noexcept : partition_{partition} {}

    /// All of `memory`, which outlives the map, each region in pieces of at most that many pages.
    formats::Status map_all(const GuestMemory& memory, formats::PageCount piece);
    /// A run inside one region, nothing of which is mapped.
    formats::Status map(formats::PageRange pages);
    /// Takes away every piece that has pages in common with these: what was taken away.
    formats::Result<std::vector<formats::PageRange>> unmap(formats::PageRange pages);

    /// Does the kernel bring in and keep all memory that is mapped (before Linux 6.19)? Tried with
    /// a page of our own, before map_all().
    [[nodiscard]] formats::Result<bool> pins_memory() const;

private:
    const Descriptor& partition_;
    const GuestMemory* memory_ = nullptr;
    std::mutex lock_;
    std::vector<formats::PageRange> pieces_;
};

} // namespace wherry::vmm::mshv
