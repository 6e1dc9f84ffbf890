// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/soft/engine.hpp"
#include "vmm/soft/hidden_state.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace wherry::vmm::soft {

/// The state of a vCPU at a PVH entry, less the entry address: flat 32-bit code, paging off, all
/// else as after a reset.
VcpuState reset_state();

/// Fails, naming it, at whatever an engine has no place for unless it has its reset value.
formats::Status check_restorable(const VcpuState& state);

/// Everything of `state` that has a register name, into an engine that is in its mode already.
void write_registers(const Engine& engine, const VcpuState& state);
void write_general(const Engine& engine, const Registers& registers);
void write_debug(const Engine& engine, const DebugRegisters& debug);
/// Is this an MSR that an engine keeps by itself?
bool is_kept_msr(std::uint32_t index);

Registers read_general(const Engine& engine);
formats::Result<SystemRegisters> read_system(const Engine& engine, const HiddenState& hidden);
DebugRegisters read_debug(const Engine& engine);
/// Everything that an engine holds, TSC and run state excluded.
formats::Result<VcpuState> read_state(const Engine& engine, const HiddenState& hidden);

/// x87, MMX and SSE as an XSAVE area in the standard form (SDM vol. 1, 13.4): 576 bytes.
std::vector<std::byte> read_xsave(const Engine& engine);
/// Components that are absent or in their initial state are initialised.
void write_xsave(const Engine& engine, std::span<const std::byte> area);
formats::Status check_xsave(std::span<const std::byte> area);

} // namespace wherry::vmm::soft
