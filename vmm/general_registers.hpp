// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <array>
#include <cstdint>

namespace wherry::vmm {

/// In the order of instruction encodings, which is also that of MSHV's register names and register
/// page: rax rcx rdx rbx rsp rbp rsi rdi r8...r15.
inline constexpr std::array<std::uint64_t Registers::*, 16> general_order{
    &Registers::rax,
    &Registers::rcx,
    &Registers::rdx,
    &Registers::rbx,
    &Registers::rsp,
    &Registers::rbp,
    &Registers::rsi,
    &Registers::rdi,
    &Registers::r8,
    &Registers::r9,
    &Registers::r10,
    &Registers::r11,
    &Registers::r12,
    &Registers::r13,
    &Registers::r14,
    &Registers::r15};

inline const std::uint64_t& general(const Registers& of, unsigned number) {
    return of.*general_order[number & 15U];
}
inline std::uint64_t& general(Registers& of, unsigned number) {
    return of.*general_order[number & 15U];
}

} // namespace wherry::vmm
