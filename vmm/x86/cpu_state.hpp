// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <optional>

namespace wherry::vmm::x86 {

/// What the emulator looks at of a vCPU: all of `registers`; of `system` the segments cs ds es fs
/// gs ss, CR0, CR3, CR4 and EFER. The rest of `system` may be left at zero.
struct CpuState {
    Registers registers;
    SystemRegisters system;
    /// CPUID 8000_0008h, EAX 7:0. Page table entries with address bits above are malformed.
    std::uint8_t physical_address_bits = 46;
};

/// An exception to deliver to the guest (SDM vol. 3, 6.15).
struct Exception {
    std::uint8_t vector = 0;
    std::optional<std::uint32_t> error_code = std::nullopt;
    /// CR2 of a page fault, DR6's new bits of a debug exception: what delivery has to set.
    std::uint64_t parameter = 0;
    friend bool operator==(const Exception&, const Exception&) = default;
};

namespace vector {
inline constexpr std::uint8_t debug = 1, invalid_opcode = 6, stack_segment = 12,
                              general_protection = 13, page_fault = 14, alignment_check = 17;
} // namespace vector

namespace rflags {
inline constexpr std::uint64_t cf = 1U << 0U, pf = 1U << 2U, af = 1U << 4U, zf = 1U << 6U,
                               sf = 1U << 7U, tf = 1U << 8U, df = 1U << 10U, of = 1U << 11U,
                               rf = 1U << 16U, vm = 1U << 17U, ac = 1U << 18U;
inline constexpr std::uint64_t arithmetic = cf | pf | af | zf | sf | of;
} // namespace rflags

namespace cr0 {
inline constexpr std::uint64_t pe = 1U << 0U, wp = 1U << 16U, am = 1U << 18U, pg = 1U << 31U;
} // namespace cr0

namespace cr4 {
inline constexpr std::uint64_t pse = 1U << 4U, pae = 1U << 5U, la57 = 1U << 12U, smep = 1U << 20U,
                               smap = 1U << 21U;
} // namespace cr4

namespace efer {
inline constexpr std::uint64_t lma = 1U << 10U, nxe = 1U << 11U;
} // namespace efer

[[nodiscard]] bool is_protected(const CpuState& cpu) noexcept; ///< CR0.PE, and not virtual-8086
[[nodiscard]] bool is_64_bit(const CpuState& cpu) noexcept;    ///< 64-bit mode, not compatibility
/// 16, 32 or 64: the size of addresses without a prefix.
[[nodiscard]] unsigned code_bits(const CpuState& cpu) noexcept;
/// The current privilege level: the DPL of SS, which VMX and MSHV keep true in every mode.
[[nodiscard]] unsigned privilege_level(const CpuState& cpu) noexcept;
/// Whether a linear address is canonical under 4- or 5-level paging. True outside 64-bit mode.
[[nodiscard]] bool is_canonical(const CpuState& cpu, std::uint64_t linear) noexcept;

} // namespace wherry::vmm::x86
