// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/vp_registers.hpp"
#include "vmm/vcpu_state.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

/// The hypervisor's form of registers and the canonical one. Pure functions.
namespace wherry::vmm::mshv {

Segment canonical(const abi::SegmentValue& from) noexcept;
abi::SegmentValue native(const Segment& from) noexcept;

/// Names of all that `canonical_plain` takes, in its order: general registers, segments, tables,
/// control and debug registers, XCR0.
std::span<const std::uint32_t> plain_names() noexcept;
/// Puts values read under plain_names() into registers, system, debug and extended_controls.
void canonical_plain(std::span<const abi::RegisterValue> values, VcpuState& state);

/// What plain_names() names, in the order in which the hypervisor takes it: EFER and APIC base;
/// segments and tables; control registers, in their intermediate form, which is not checked
/// against what is not yet written; general registers; XCR0.
std::vector<NamedValue> native_plain(const VcpuState& state);
std::vector<NamedValue> native_debug(const DebugRegisters& debug);

/// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15: the order of register names and page.
std::array<std::uint64_t, 16> general_of(const Registers& registers) noexcept;
void set_general(Registers& registers, const std::array<std::uint64_t, 16>& values) noexcept;

} // namespace wherry::vmm::mshv
