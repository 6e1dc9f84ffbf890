// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/arithmetic.hpp"

#include "vmm/x86/cpu_state.hpp"
#include "vmm/x86/register_file.hpp"

#include <bit>

namespace wherry::vmm::x86 {

namespace {

std::uint64_t sign_of(unsigned bits, std::uint64_t value) {
    return (value >> (bits - 1)) & 1U;
}

std::uint64_t flag_if(bool is_set, std::uint64_t flag) {
    return is_set ? flag : 0;
}

/// SF, ZF and PF of a result.
std::uint64_t result_flags(unsigned bits, std::uint64_t value) {
    return flag_if(sign_of(bits, value) != 0, rflags::sf) | flag_if(value == 0, rflags::zf) |
           flag_if(std::popcount(value & 0xffU) % 2 == 0, rflags::pf);
}

Computed with_flags(
    unsigned bits,
    std::uint64_t value,
    std::uint64_t flags,
    std::uint64_t before,
    std::uint64_t kept = 0) {
    const std::uint64_t changed = rflags::arithmetic & ~kept;
    const std::uint64_t all = flags | result_flags(bits, value);
    return {.value = value, .rflags = (before & ~changed) | (all & changed)};
}

/// A carry out of any bit shows in where operands and result disagree (Hacker's Delight, 2-13).
Computed
sum(unsigned bits,
    std::uint64_t a,
    std::uint64_t b,
    std::uint64_t carry_in,
    std::uint64_t before,
    std::uint64_t kept = 0) {
    const std::uint64_t value = low_bits(a + b + carry_in, bits);
    const std::uint64_t carries = (a & b) | ((a | b) & ~value);
    const std::uint64_t overflow = (a ^ value) & (b ^ value);
    return with_flags(
        bits,
        value,
        flag_if(sign_of(bits, carries) != 0, rflags::cf) |
            flag_if((carries & 8U) != 0, rflags::af) |
            flag_if(sign_of(bits, overflow) != 0, rflags::of),
        before,
        kept);
}

Computed difference(
    unsigned bits,
    std::uint64_t a,
    std::uint64_t b,
    std::uint64_t borrow_in,
    std::uint64_t before,
    std::uint64_t kept = 0) {
    const std::uint64_t value = low_bits(a - b - borrow_in, bits);
    const std::uint64_t borrows = (~a & b) | ((~a | b) & value);
    const std::uint64_t overflow = (a ^ b) & (a ^ value);
    return with_flags(
        bits,
        value,
        flag_if(sign_of(bits, borrows) != 0, rflags::cf) |
            flag_if((borrows & 8U) != 0, rflags::af) |
            flag_if(sign_of(bits, overflow) != 0, rflags::of),
        before,
        kept);
}

std::uint64_t selected_bit(unsigned bits, std::uint64_t number) {
    return std::uint64_t{1} << (number % bits);
}

Computed with_tested_bit(
    unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t value, std::uint64_t before) {
    const bool was_set = (a & selected_bit(bits, b)) != 0;
    return {.value = value, .rflags = (before & ~rflags::cf) | flag_if(was_set, rflags::cf)};
}

} // namespace

Computed add(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return sum(bits, a, b, 0, before);
}
Computed
add_with_carry(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return sum(bits, a, b, before & rflags::cf, before);
}
Computed subtract(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return difference(bits, a, b, 0, before);
}
Computed subtract_with_borrow(
    unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return difference(bits, a, b, before & rflags::cf, before);
}
Computed
bitwise_and(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_flags(bits, a & b, 0, before);
}
Computed
bitwise_or(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_flags(bits, a | b, 0, before);
}
Computed
bitwise_xor(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_flags(bits, a ^ b, 0, before);
}

Computed
increment(unsigned bits, std::uint64_t a, std::uint64_t /*b*/, std::uint64_t before) noexcept {
    return sum(bits, a, 1, 0, before, rflags::cf);
}
Computed
decrement(unsigned bits, std::uint64_t a, std::uint64_t /*b*/, std::uint64_t before) noexcept {
    return difference(bits, a, 1, 0, before, rflags::cf);
}
Computed
negate(unsigned bits, std::uint64_t a, std::uint64_t /*b*/, std::uint64_t before) noexcept {
    return difference(bits, 0, a, 0, before);
}
Computed
complement(unsigned bits, std::uint64_t a, std::uint64_t /*b*/, std::uint64_t before) noexcept {
    return {.value = low_bits(~a, bits), .rflags = before};
}

Computed bit_test(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_tested_bit(bits, a, b, a, before);
}
Computed bit_set(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_tested_bit(bits, a, b, a | selected_bit(bits, b), before);
}
Computed bit_reset(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_tested_bit(bits, a, b, a & ~selected_bit(bits, b), before);
}
Computed
bit_complement(unsigned bits, std::uint64_t a, std::uint64_t b, std::uint64_t before) noexcept {
    return with_tested_bit(bits, a, b, a ^ selected_bit(bits, b), before);
}

} // namespace wherry::vmm::x86
