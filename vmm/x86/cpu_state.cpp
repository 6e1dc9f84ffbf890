// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/cpu_state.hpp"

namespace wherry::vmm::x86 {

namespace {

constexpr std::uint32_t long_code = 1U << 13U;   // L
constexpr std::uint32_t big_default = 1U << 14U; // D/B

bool is_virtual_8086(const CpuState& cpu) noexcept {
    return (cpu.registers.rflags & rflags::vm) != 0 && (cpu.system.cr0 & cr0::pe) != 0;
}

} // namespace

bool is_protected(const CpuState& cpu) noexcept {
    return (cpu.system.cr0 & cr0::pe) != 0 && !is_virtual_8086(cpu);
}

bool is_64_bit(const CpuState& cpu) noexcept {
    return (cpu.system.efer & efer::lma) != 0 && (cpu.system.cs.attributes & long_code) != 0;
}

unsigned code_bits(const CpuState& cpu) noexcept {
    if (is_64_bit(cpu)) {
        return 64;
    }
    return (cpu.system.cs.attributes & big_default) != 0 ? 32 : 16;
}

unsigned privilege_level(const CpuState& cpu) noexcept {
    if ((cpu.system.cr0 & cr0::pe) == 0) {
        return 0;
    }
    return is_virtual_8086(cpu) ? 3 : (cpu.system.ss.attributes >> 5U) & 3U;
}

bool is_canonical(const CpuState& cpu, std::uint64_t linear) noexcept {
    if (!is_64_bit(cpu)) {
        return true;
    }
    const unsigned sign_bit = (cpu.system.cr4 & cr4::la57) != 0 ? 56 : 47;
    const std::uint64_t above = linear >> sign_bit;
    return above == 0 || above == ~std::uint64_t{0} >> sign_bit;
}

} // namespace wherry::vmm::x86
