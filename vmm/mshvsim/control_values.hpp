// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <span>

namespace wherry::vmm::mshvsim {

// What a processor refuses of control registers (SDM vol. 3, 2.5, 4.1 and 10.8.5).

/// False: reserved bits, or bits of one register that exclude each other. `cpuid` is what the VP
/// has. Names of other registers: true.
bool is_possible(std::uint32_t name, std::uint64_t value, std::span<const CpuidEntry> cpuid);
/// Whether paging, PAE and long mode agree.
bool is_consistent(const SystemRegisters& system);

} // namespace wherry::vmm::mshvsim
