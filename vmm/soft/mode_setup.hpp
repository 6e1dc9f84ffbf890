// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/soft/engine.hpp"
#include "vmm/vcpu_state.hpp"

namespace wherry::vmm::soft {

/// An image whose mode of operation (protected, compatibility or 64-bit, with everything an engine
/// derives from the control registers and segments) is that of `system`. It is reached the way a
/// processor reaches it, by instructions in a scratch engine, so nothing is assumed about how an
/// engine encodes it. What has a register name (CR0, CR2, CR3, tables, bases) is the caller's to
/// write afterwards. Fails, naming it, at what a soft guest cannot be in.
formats::Result<CpuImage> image_in_mode(const SystemRegisters& system);

/// False: has a register value that no state of an engine has, be the others what they may.
bool has_possible_values(const SystemRegisters& system) noexcept;
/// False: image_in_mode() or image_in_real_mode(), whichever is for it, refuses it. Cheap.
bool is_possible_mode(const SystemRegisters& system);
/// The same for real mode. SoftPartition has no use for it; the simulator's guests begin so.
formats::Result<CpuImage> image_in_real_mode(const SystemRegisters& system);

inline constexpr std::uint64_t efer_long_mode_enabled = 1U << 8U;
inline constexpr std::uint64_t efer_long_mode_active = 1U << 10U;
inline constexpr std::uint64_t cr0_paging = 1U << 31U;

} // namespace wherry::vmm::soft
