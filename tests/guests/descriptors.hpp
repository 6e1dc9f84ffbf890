// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/guests/cpu.hpp"

#include <array>
#include <cstdint>

namespace wherry::guest {

/// CPU 0 is the boot CPU.
using Cpus = std::array<Cpu, max_cpus>;
extern "C" Cpus cpu_blocks;

struct Gate {
    std::uint64_t low;
    std::uint64_t high;
};

enum class GateUse { hardware, software };
enum class ApicAccess { xapic, x2apic };

inline constexpr unsigned timer_vector = 0x40;
inline constexpr unsigned generation_vector = 0x41;
inline constexpr unsigned service_vector = 3; // breakpoint;
inline constexpr unsigned spurious_vector = 0xff;

/// The interrupt table is plain memory: any ring may change a gate.
void set_gate(unsigned vector, std::uint64_t handler, GateUse use) noexcept;
/// Of the timer and of the generation id: how they acknowledge.
void set_interrupt_handlers(ApicAccess access) noexcept;

} // namespace wherry::guest
