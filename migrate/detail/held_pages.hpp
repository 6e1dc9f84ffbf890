// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace wherry::migrate::detail {

/// Pages and their contents, in the order in which they were copied.
class HeldPages {
public:
    /// Memory is there, and no page fault is left to be taken, for so many. `out_of_resources`
    /// where this host has not twice as much left.
    formats::Status make_room(formats::Bytes size);
    /// In whatever room it takes.
    formats::Status copy(const vmm::GuestMemory& memory, const dirtylog::DirtySet& pages);
    [[nodiscard]] const std::vector<formats::PageRange>& runs() const noexcept { return runs_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

private:
    void grow_to(formats::Bytes size);

    std::vector<formats::PageRange> runs_;
    std::vector<std::byte> bytes_;
};

} // namespace wherry::migrate::detail
