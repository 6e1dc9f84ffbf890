// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace wherry::vmm::x86 {

/// A result and RFLAGS after it. Where the SDM leaves a flag undefined it is as processors have
/// it: AF is 0 after a logical operation, everything but CF is kept by a bit test.
struct Computed {
    std::uint64_t value;
    std::uint64_t rflags;
};

/// Operands of `bits` (8, 16, 32, 64), zero-extended; `rflags` before. Pure.
using Operation =
    Computed (*)(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;

Computed add(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed
add_with_carry(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed subtract(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed subtract_with_borrow(
    unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed
bitwise_and(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed bitwise_or(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed
bitwise_xor(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;

// Of one operand: `b` is ignored.
Computed increment(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed decrement(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed negate(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed complement(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;

// Of a bit: `b` modulo `bits` is its number. CF is what it was.
Computed bit_test(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed bit_set(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed bit_reset(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;
Computed
bit_complement(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t rflags) noexcept;

} // namespace wherry::vmm::x86
