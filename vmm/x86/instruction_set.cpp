// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/instruction_set.hpp"

#include "vmm/x86/arithmetic.hpp"
#include "vmm/x86/register_file.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

namespace wherry::vmm::x86 {

namespace {

/// `destination := operation(destination, source)`, or its flags alone for CMP and TEST.
enum class Result : std::uint8_t { written, dropped };

struct ArithmeticEntry {
    ZydisMnemonic mnemonic;
    Operation operation;
    Result result = Result::written;
};
constexpr std::array arithmetic_entries = {
    ArithmeticEntry{ZYDIS_MNEMONIC_ADD, add},
    ArithmeticEntry{ZYDIS_MNEMONIC_ADC, add_with_carry},
    ArithmeticEntry{ZYDIS_MNEMONIC_SUB, subtract},
    ArithmeticEntry{ZYDIS_MNEMONIC_SBB, subtract_with_borrow},
    ArithmeticEntry{ZYDIS_MNEMONIC_AND, bitwise_and},
    ArithmeticEntry{ZYDIS_MNEMONIC_OR, bitwise_or},
    ArithmeticEntry{ZYDIS_MNEMONIC_XOR, bitwise_xor},
    ArithmeticEntry{ZYDIS_MNEMONIC_INC, increment},
    ArithmeticEntry{ZYDIS_MNEMONIC_DEC, decrement},
    ArithmeticEntry{ZYDIS_MNEMONIC_NEG, negate},
    ArithmeticEntry{ZYDIS_MNEMONIC_NOT, complement},
    ArithmeticEntry{ZYDIS_MNEMONIC_CMP, subtract, Result::dropped},
    ArithmeticEntry{ZYDIS_MNEMONIC_TEST, bitwise_and, Result::dropped}};

constexpr std::array bit_entries = {
    ArithmeticEntry{ZYDIS_MNEMONIC_BT, bit_test, Result::dropped},
    ArithmeticEntry{ZYDIS_MNEMONIC_BTS, bit_set},
    ArithmeticEntry{ZYDIS_MNEMONIC_BTR, bit_reset},
    ArithmeticEntry{ZYDIS_MNEMONIC_BTC, bit_complement}};

template <typename Entries>
auto find(const Entries& entries, ZydisMnemonic mnemonic) {
    const auto* const found = std::ranges::find(entries, mnemonic, &Entries::value_type::mnemonic);
    return found == entries.end() ? nullptr : found;
}

bool is_explicit(const ZydisDecodedOperand& operand) {
    return operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
}

/// `displacement` moves a memory destination, for bit strings.
Step<void> apply(
    Execution& execution,
    const ArithmeticEntry& entry,
    std::uint64_t source,
    std::int64_t displacement) {
    const unsigned bits = execution.bits(0);
    const std::uint64_t before = execution.registers().rflags;
    std::uint64_t after = before;
    const auto compute = [&](std::uint64_t value) {
        const Computed computed = entry.operation(bits, value, low_bits(source, bits), before);
        after = computed.rflags;
        return computed.value;
    };
    Step<std::uint64_t> old = 0;
    if (entry.result == Result::written) {
        old = execution.modify_at(0, displacement, compute);
    } else if (execution.operand(0).type == ZYDIS_OPERAND_TYPE_MEMORY) {
        auto place = execution.locate(0, Access::read, displacement);
        old = place ? execution.memory().read(*place) : Step<std::uint64_t>{stop(place)};
    } else {
        old = execution.value(0);
    }
    if (!old) {
        return stop(old);
    }
    if (entry.result == Result::dropped) {
        compute(*old);
    }
    execution.registers().rflags = after;
    return {};
}

Step<void> arithmetic(Execution& execution, const ArithmeticEntry& entry) {
    Step<std::uint64_t> source = 0;
    if (is_explicit(execution.operand(1))) {
        source = execution.value(1);
    }
    return source ? apply(execution, entry, *source, 0) : stop(source);
}

/// A bit number in a register reaches beyond a memory operand, in units of the operand.
Step<void> bit(Execution& execution, const ArithmeticEntry& entry) {
    auto number = execution.value(1);
    if (!number) {
        return stop(number);
    }
    std::int64_t displacement = 0;
    if (execution.operand(0).type == ZYDIS_OPERAND_TYPE_MEMORY &&
        execution.operand(1).type == ZYDIS_OPERAND_TYPE_REGISTER) {
        const unsigned bits = execution.bits(0);
        const auto extended = static_cast<std::int64_t>(sign_extended(*number, bits));
        displacement = (extended >> std::countr_zero(bits)) * static_cast<std::int64_t>(bits / 8);
    }
    return apply(execution, entry, *number, displacement);
}

Step<void> move(Execution& execution, ExitHandler& /*handler*/) {
    if (execution.operand(0).type == ZYDIS_OPERAND_TYPE_REGISTER &&
        segment_name(execution.operand(0).reg.value)) {
        return stop(formats::Error{
            formats::ErrorCode::unsupported, "loading a segment register is not emulated"});
    }
    auto value = execution.value(1);
    return value ? execution.assign(0, *value) : stop(value);
}

Step<void> move_sign_extended(Execution& execution, ExitHandler& /*handler*/) {
    auto value = execution.value(1);
    return value ? execution.assign(0, sign_extended(*value, execution.bits(1))) : stop(value);
}

Step<void> move_byte_swapped(Execution& execution, ExitHandler& /*handler*/) {
    auto value = execution.value(1);
    return value ? execution.assign(0, std::byteswap(*value) >> (64 - execution.bits(1)))
                 : stop(value);
}

Step<void> exchange(Execution& execution, ExitHandler& /*handler*/) {
    const bool memory_is_second = execution.operand(1).type == ZYDIS_OPERAND_TYPE_MEMORY;
    const std::size_t memory = memory_is_second ? 1 : 0;
    const std::size_t other = 1 - memory;
    const auto value = execution.value(other);
    if (!value) {
        return std::unexpected{value.error()};
    }
    auto before = execution.modify(memory, [&](std::uint64_t) { return *value; });
    return before ? execution.assign(other, *before) : stop(before);
}

Step<void> exchange_and_add(Execution& execution, ExitHandler& /*handler*/) {
    const unsigned bits = execution.bits(0);
    const auto addend = execution.value(1);
    if (!addend) {
        return std::unexpected{addend.error()};
    }
    auto before =
        execution.modify(0, [&](std::uint64_t value) { return low_bits(value + *addend, bits); });
    if (!before) {
        return stop(before);
    }
    const std::uint64_t flags = add(bits, *before, *addend, execution.registers().rflags).rflags;
    // The destination last: of XADD with one register twice, the sum stays.
    if (auto assigned = execution.assign(1, *before); !assigned) {
        return assigned;
    }
    execution.registers().rflags = flags;
    return execution.operand(0).type == ZYDIS_OPERAND_TYPE_REGISTER
               ? execution.assign(0, low_bits(*before + *addend, bits))
               : Step<void>{};
}

/// Writes its destination whatever the comparison says, as the processor does.
Step<void> compare_and_exchange(Execution& execution, ExitHandler& /*handler*/) {
    const unsigned bits = execution.bits(0);
    auto& registers = execution.registers();
    const std::uint64_t expected = low_bits(registers.rax, bits);
    const auto desired = execution.value(1);
    if (!desired) {
        return std::unexpected{desired.error()};
    }
    auto before = execution.modify(
        0, [&](std::uint64_t value) { return value == expected ? *desired : value; });
    if (!before) {
        return stop(before);
    }
    registers.rflags = subtract(bits, expected, *before, registers.rflags).rflags;
    if (*before == expected) {
        return {};
    }
    constexpr std::array accumulators = {
        ZYDIS_REGISTER_AL, ZYDIS_REGISTER_AX, ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_RAX};
    const auto size = static_cast<std::size_t>(std::countr_zero(bits / 8));
    write_register(registers, accumulators[size], *before);
    return {};
}

Step<void> input(Execution& execution, ExitHandler& handler) {
    auto port = execution.value(1);
    if (!port) {
        return stop(port);
    }
    std::array<std::byte, 8> bytes{};
    handler.port_read(
        static_cast<std::uint16_t>(low_bits(*port, execution.bits(1))),
        std::span{bytes}.first(execution.bits(0) / 8));
    return execution.assign(0, std::bit_cast<std::uint64_t>(bytes));
}

Step<void> output(Execution& execution, ExitHandler& handler) {
    auto port = execution.value(0);
    auto value = execution.value(1);
    if (!port || !value) {
        return port ? stop(value) : stop(port);
    }
    const auto bytes = std::bit_cast<std::array<std::byte, 8>>(*value);
    handler.port_write(
        static_cast<std::uint16_t>(low_bits(*port, execution.bits(0))),
        std::span{bytes}.first(execution.bits(1) / 8));
    return {};
}

struct Entry {
    ZydisMnemonic mnemonic;
    Step<void> (*execute)(Execution&, ExitHandler&);
};
constexpr std::array entries = {
    Entry{ZYDIS_MNEMONIC_MOV, move},
    Entry{ZYDIS_MNEMONIC_MOVZX, move}, // values are zero-extended already
    Entry{ZYDIS_MNEMONIC_MOVNTI, move},
    Entry{ZYDIS_MNEMONIC_MOVDIRI, move},
    Entry{ZYDIS_MNEMONIC_MOVSX, move_sign_extended},
    Entry{ZYDIS_MNEMONIC_MOVSXD, move_sign_extended},
    Entry{ZYDIS_MNEMONIC_MOVBE, move_byte_swapped},
    Entry{ZYDIS_MNEMONIC_XCHG, exchange},
    Entry{ZYDIS_MNEMONIC_XADD, exchange_and_add},
    Entry{ZYDIS_MNEMONIC_CMPXCHG, compare_and_exchange},
    Entry{ZYDIS_MNEMONIC_IN, input},
    Entry{ZYDIS_MNEMONIC_OUT, output}};

/// Control and debug registers, MMX: MOV has forms for them too.
bool is_within_reach(const ZydisDecodedOperand& operand) {
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !is_explicit(operand)) {
        return true;
    }
    Registers unused;
    return full_register(unused, operand.reg.value) != nullptr ||
           segment_name(operand.reg.value).has_value();
}

} // namespace

Step<void> execute(Execution& execution, ExitHandler& handler) {
    const Instruction& instruction = execution.instruction();
    if (std::ranges::all_of(instruction.operands(), is_within_reach)) {
        const ZydisMnemonic mnemonic = instruction.fields.mnemonic;
        if (const auto* const entry = find(arithmetic_entries, mnemonic)) {
            return arithmetic(execution, *entry);
        }
        if (const auto* const entry = find(bit_entries, mnemonic)) {
            return bit(execution, *entry);
        }
        if (const auto* const entry = find(entries, mnemonic)) {
            return entry->execute(execution, handler);
        }
    }
    return stop(formats::Error{
        formats::ErrorCode::unsupported,
        fmt::format("the emulator does not know this instruction: {}", instruction.text())});
}

} // namespace wherry::vmm::x86
