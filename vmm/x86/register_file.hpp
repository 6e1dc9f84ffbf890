// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"
#include "vmm/x86/segmentation.hpp"

#include <cstdint>
#include <optional>

#include <Zydis/Register.h>

namespace wherry::vmm::x86 {

/// The general register that `name` is part of (RAX for AH), or nullptr where it is none.
[[nodiscard]] std::uint64_t* full_register(Registers& registers, ZydisRegister name) noexcept;

/// The value of a general register of any width, zero-extended. `name` is one.
[[nodiscard]] std::uint64_t read_register(const Registers& registers, ZydisRegister name) noexcept;
/// Writes as the processor does: 32 bits clear the upper half, 8 and 16 leave the rest alone.
void write_register(Registers& registers, ZydisRegister name, std::uint64_t value) noexcept;

/// Nothing where `name` is not a segment register.
[[nodiscard]] std::optional<SegmentName> segment_name(ZydisRegister name) noexcept;

/// The low `bits` bits (8 to 64) of a number.
[[nodiscard]] constexpr std::uint64_t low_bits(std::uint64_t value, unsigned bits) noexcept {
    return bits >= 64 ? value : value & ((std::uint64_t{1} << bits) - 1);
}
/// The low `bits` bits, with the highest of them as all bits above.
[[nodiscard]] constexpr std::uint64_t sign_extended(std::uint64_t value, unsigned bits) noexcept {
    const std::uint64_t sign = std::uint64_t{1} << (bits - 1);
    return (low_bits(value, bits) ^ sign) - sign;
}

} // namespace wherry::vmm::x86
