// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/x86/cpu_state.hpp"

#include <cstdint>
#include <expected>

namespace wherry::vmm::x86 {

enum class Access : std::uint8_t { read, write, execute };

/// Either the guest physical address, or the exception that the access raises.
using Translation = std::expected<formats::Gpa, Exception>;

/// Translates a linear address as the processor would (SDM vol. 3, chapter 4) at the present
/// privilege level: none, 2-level, PAE, 4- and 5-level paging, large pages, reserved bits, U/S, W,
/// NX, CR0.WP, SMEP, SMAP. Sets accessed and dirty flags, atomically, as the processor does.
/// Canonical addresses are the caller's business. Protection keys and shadow stacks are not looked
/// at. An Error, not an exception, where a page table is not in RAM.
formats::Result<Translation>
translate(const CpuState& cpu, GuestMemory& memory, std::uint64_t linear, Access access);

} // namespace wherry::vmm::x86
