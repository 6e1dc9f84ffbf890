// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/x86/cpu_state.hpp"
#include "vmm/x86/page_walk.hpp"
#include "vmm/x86/step.hpp"

#include <cstdint>

namespace wherry::vmm::x86 {

enum class SegmentName : std::uint8_t { es, cs, ss, ds, fs, gs };

[[nodiscard]] const Segment& segment_of(const CpuState& cpu, SegmentName name) noexcept;

/// The linear address of `size` bytes of data at `offset` in a segment, or #GP, #SS: limits and
/// types outside 64-bit mode (SDM vol. 3, 5.3 to 5.5), canonical addresses in it; #AC where
/// alignment is checked.
Step<std::uint64_t> linear_address(
    const CpuState& cpu, SegmentName name, std::uint64_t offset, unsigned size, Access access);

} // namespace wherry::vmm::x86
