// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace wherry::vmm::boot {

/// One PT_LOAD, with its bytes inside the file that was parsed.
struct ElfSegment {
    std::uint64_t physical_address = 0; ///< physical_address + memory_size does not wrap
    std::uint64_t memory_size = 0;      ///< >= content.size(); the rest is zero
    std::span<const std::byte> content;
};

struct ElfImage {
    bool is_64_bit = false;
    std::vector<ElfSegment> segments; ///< in file order; those without memory left out
    /// XEN_ELFNOTE_PHYS32_ENTRY (18) of "Xen": the PVH entry.
    std::optional<std::uint64_t> pvh_entry;
};

[[nodiscard]] bool is_elf(std::span<const std::byte> file) noexcept;

/// Total over any bytes; allocates for at most 128 program headers. What it returns lends from
/// `file`. Fails with invalid_argument for what is no x86 program or reaches out of the file.
formats::Result<ElfImage> parse_elf(std::span<const std::byte> file);

} // namespace wherry::vmm::boot
