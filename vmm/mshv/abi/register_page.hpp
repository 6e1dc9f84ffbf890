// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/registers.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace wherry::vmm::mshv::abi {

/// Page 0 of a VP's mapping: registers as of the last exit. What the VMM writes here and marks in
/// `dirty` the next RUN_VP takes, clearing `dirty`; until then GET_VP_REGISTERS need not see it.
struct RegisterPage {
    std::uint16_t version = 1;
    std::uint8_t is_valid = 0;
    std::uint8_t reserved0 = 0;
    std::uint32_t dirty = 0;                 ///< register_page_dirty
    std::array<std::uint64_t, 16> general{}; ///< rax rcx rdx rbx rsp rbp rsi rdi r8...r15
    std::uint64_t rip = 0;
    std::uint64_t rflags = 0;
    std::uint64_t reserved1 = 0;
    std::array<RegisterValue, 6> xmm{};
    SegmentValue es, cs, ss, ds, fs, gs;
    // From here on read-only.
    std::uint64_t cr0 = 0, cr3 = 0, cr4 = 0, cr8 = 0, efer = 0, dr7 = 0;
    std::uint64_t pending_interruption = 0;
    std::uint64_t interrupt_state = 0;
    std::uint64_t emulation_hints = 0;
    std::uint64_t xfem = 0;
    std::array<std::uint8_t, 256> reserved2{};
    /// Injected and not scanned yet, under the root scheduler: count 7:0, then up to 7 vectors.
    std::uint64_t interrupt_vectors = 0;
};
static_assert(sizeof(RegisterPage) == 696);
static_assert(offsetof(RegisterPage, general) == 8 && offsetof(RegisterPage, rip) == 136);
static_assert(offsetof(RegisterPage, xmm) == 160 && offsetof(RegisterPage, es) == 256);
static_assert(offsetof(RegisterPage, gs) == 336 && offsetof(RegisterPage, cr0) == 352);
static_assert(offsetof(RegisterPage, xfem) == 424);
static_assert(offsetof(RegisterPage, interrupt_vectors) == 688);

namespace register_page_dirty {
inline constexpr std::uint32_t general = 1U << 0U;
inline constexpr std::uint32_t rip = 1U << 1U;
inline constexpr std::uint32_t xmm = 1U << 2U;
inline constexpr std::uint32_t segments = 1U << 3U;
inline constexpr std::uint32_t rflags = 1U << 4U;
inline constexpr std::uint32_t all = 0x1f;
} // namespace register_page_dirty

inline constexpr std::size_t max_interrupt_vectors = 7;

} // namespace wherry::vmm::mshv::abi
