// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "vmm/guest_memory.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace wherry::dirtylog {

/// Remembers the pages that the VMM itself wrote. `wrote` may come from any thread at any time and
/// never blocks; drain from one thread at a time.
class DeviceWriteLog final : public vmm::WriteObserver {
public:
    explicit DeviceWriteLog(std::span<const vmm::MemoryRegion> regions);

    void wrote(formats::PageRange pages) noexcept override;
    /// Moves what was logged into `into`, a set of the same RAM.
    void drain(DirtySet& into);

private:
    struct Region {
        formats::PageRange pages;
        std::vector<std::atomic<std::uint64_t>> words;
    };
    std::vector<Region> regions_;
};

} // namespace wherry::dirtylog
