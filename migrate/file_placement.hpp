// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/page_placement.hpp"
#include "vmm/guest_memory.hpp"

namespace wherry::migrate {

/// Places the pages of a guest that has not run here through the file behind its memory, not
/// through its mapping: writing whole pages there spares the kernel clearing them and taking a
/// fault for each, which costs as much as everything else a destination does; and what the host
/// cannot provide comes back as an error instead of a signal.
class FilePlacement final : public PagePlacement {
public:
    /// `memory` outlives it.
    explicit FilePlacement(vmm::GuestMemory& memory) noexcept : memory_{memory} {}

    formats::Status place(formats::PageRange pages, std::span<const std::byte> bytes) override;
    formats::Status place_zero(formats::PageRange pages) override;

private:
    vmm::GuestMemory& memory_;
};

} // namespace wherry::migrate
