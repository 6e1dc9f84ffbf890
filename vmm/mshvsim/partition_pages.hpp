// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/overlay_page.hpp"

#include <cstdint>
#include <mutex>
#include <optional>

namespace wherry::vmm::mshvsim {

/// Who writes a synthetic register. What a guest may not write is #GP to it; a VMM restores states.
enum class Writer : std::uint8_t { root, guest };

/// Registers that a partition has once, whichever VP names them, and the pages that go with them:
/// GUEST_OS_ID, HYPERCALL, REFERENCE_TSC. Thread-safe.
class PartitionPages {
public:
    explicit PartitionPages(MemoryMap& memory) : hypercall_{memory}, reference_tsc_{memory} {}
    /// What the guest sees of the pages; without, registers keep what is written.
    void offer(std::uint64_t synthetic_features);
    /// Nothing: none of the three.
    std::optional<std::uint64_t> get(std::uint32_t name);
    /// False: none of the three.
    bool set(std::uint32_t name, std::uint64_t value, Writer writer);
    /// As OverlayPage's.
    std::optional<std::uint64_t> settle();

private:
    void set_hypercall(std::uint64_t value, Writer writer);

    std::mutex lock_;
    std::uint64_t guest_os_id_ = 0;
    OverlayPage hypercall_, reference_tsc_;
};

} // namespace wherry::vmm::mshvsim
