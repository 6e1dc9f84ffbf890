// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace wherry::vmm::boot {

/// The numbers that E820 and PVH share.
enum class MemoryType : std::uint32_t { usable = 1, reserved = 2, acpi = 3 };

struct MemoryMapEntry {
    formats::Gpa first;
    formats::Bytes size;
    MemoryType type;
    friend bool operator==(const MemoryMapEntry&, const MemoryMapEntry&) = default;
};

/// What the guest is told of its RAM, in ascending order. Never more than 8 entries.
std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory);

/// One past the RAM that starts at 0; at most 3 GiB.
formats::Gpa low_ram_end(const GuestMemory& memory);

/// Refuses a piece of `what` that is not wholly in RAM from 1 MiB on, below the hole.
formats::Status require_room(
    const GuestMemory& memory, formats::Gpa at, formats::Bytes size, std::string_view what);

/// The highest page-aligned place for `size` bytes of initrd in [above, limit) of low RAM.
formats::Result<formats::Gpa> place_initrd(
    const GuestMemory& memory, formats::Bytes size, formats::Gpa above, formats::Gpa limit);

} // namespace wherry::vmm::boot
