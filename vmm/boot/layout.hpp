// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <cstddef>

/// Where the loader puts its tables, all below 1 MiB. The kernel comes at 1 MiB or above.
namespace wherry::vmm::boot::layout {

using formats::operator""_KiB;

inline constexpr formats::Gpa start_info{0x6000}; ///< PVH: one page, modules and map included
inline constexpr formats::Gpa zero_page{0x7000};  ///< bzImage: struct boot_params
inline constexpr formats::Gpa descriptor_table{0x8000};
inline constexpr formats::Gpa page_tables{0x9000}; ///< PML4, PDPT, four directories
inline constexpr formats::Gpa command_line{0x20000};
inline constexpr formats::Bytes command_line_room = 64_KiB; ///< the final NUL included
inline constexpr formats::Gpa low_end{0x9fc00};             ///< end of usable conventional memory
inline constexpr formats::Gpa low_hole{0xa0000}; ///< up to here: where a BIOS keeps its data
/// Searched for an RSDP by kernels that are not told where it is.
inline constexpr formats::Gpa acpi{0xe0000};
/// Where real mode starts after a reset: ffff:0000.
inline constexpr formats::Gpa reset_vector{0xffff0};
inline constexpr formats::Gpa high{0x100000};

} // namespace wherry::vmm::boot::layout
