// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/guests/cpu.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace wherry::guest {

struct MemoryRange {
    std::uint64_t first_byte;
    std::uint64_t bytes;
};

/// What CPUID says, read in ring 0: a ring-3 CPUID reaches the bare processor on some hosts.
struct CpuFacts {
    bool has_lapic;
    bool has_x2apic;
    bool has_tsc_deadline;
    bool is_soft;            ///< the hypervisor signature is "WherrySoft"
    std::uint32_t tsc_khz;   ///< 0: CPUID does not tell
    std::uint64_t ring0_tsc; ///< TSC as ring 0 saw it when this was read
};

/// Copied out of the loader's structures before any other memory is written.
struct BootInfo {
    std::array<char, 2048> command_line;
    std::size_t command_line_length;
    std::array<MemoryRange, 16> ram; ///< usable RAM, whole pages, as the loader listed it
    std::size_t ram_count;
    CpuFacts facts;

    [[nodiscard]] std::string_view command() const noexcept {
        return {command_line.data(), command_line_length};
    }
    [[nodiscard]] std::span<const MemoryRange> ranges() const noexcept {
        return {ram.data(), ram_count};
    }
};

extern BootInfo boot_info;

/// Ring 0, once: command line and CPUID.
void read_loader_structures() noexcept;
/// Any ring, once, after the command line was read: the memory map. False: there is none.
[[nodiscard]] bool read_memory_map() noexcept;

} // namespace wherry::guest
