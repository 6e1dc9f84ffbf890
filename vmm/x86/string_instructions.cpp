// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/string_instructions.hpp"

#include "vmm/x86/arithmetic.hpp"
#include "vmm/x86/emulator.hpp"
#include "vmm/x86/register_file.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace wherry::vmm::x86 {

namespace {

enum class Kind : std::uint8_t { move, store, load, compare, scan, input, output };

struct Entry {
    ZydisMnemonic mnemonic;
    Kind kind;
    unsigned bits;
};
constexpr std::array entries = {
    Entry{ZYDIS_MNEMONIC_MOVSB, Kind::move, 8},     Entry{ZYDIS_MNEMONIC_MOVSW, Kind::move, 16},
    Entry{ZYDIS_MNEMONIC_MOVSD, Kind::move, 32},    Entry{ZYDIS_MNEMONIC_MOVSQ, Kind::move, 64},
    Entry{ZYDIS_MNEMONIC_STOSB, Kind::store, 8},    Entry{ZYDIS_MNEMONIC_STOSW, Kind::store, 16},
    Entry{ZYDIS_MNEMONIC_STOSD, Kind::store, 32},   Entry{ZYDIS_MNEMONIC_STOSQ, Kind::store, 64},
    Entry{ZYDIS_MNEMONIC_LODSB, Kind::load, 8},     Entry{ZYDIS_MNEMONIC_LODSW, Kind::load, 16},
    Entry{ZYDIS_MNEMONIC_LODSD, Kind::load, 32},    Entry{ZYDIS_MNEMONIC_LODSQ, Kind::load, 64},
    Entry{ZYDIS_MNEMONIC_CMPSB, Kind::compare, 8},  Entry{ZYDIS_MNEMONIC_CMPSW, Kind::compare, 16},
    Entry{ZYDIS_MNEMONIC_CMPSD, Kind::compare, 32}, Entry{ZYDIS_MNEMONIC_CMPSQ, Kind::compare, 64},
    Entry{ZYDIS_MNEMONIC_SCASB, Kind::scan, 8},     Entry{ZYDIS_MNEMONIC_SCASW, Kind::scan, 16},
    Entry{ZYDIS_MNEMONIC_SCASD, Kind::scan, 32},    Entry{ZYDIS_MNEMONIC_SCASQ, Kind::scan, 64},
    Entry{ZYDIS_MNEMONIC_INSB, Kind::input, 8},     Entry{ZYDIS_MNEMONIC_INSW, Kind::input, 16},
    Entry{ZYDIS_MNEMONIC_INSD, Kind::input, 32},    Entry{ZYDIS_MNEMONIC_OUTSB, Kind::output, 8},
    Entry{ZYDIS_MNEMONIC_OUTSW, Kind::output, 16},  Entry{ZYDIS_MNEMONIC_OUTSD, Kind::output, 32}};

const Entry* find(ZydisMnemonic mnemonic) {
    const auto* const found = std::ranges::find(entries, mnemonic, &Entry::mnemonic);
    return found == entries.end() ? nullptr : found;
}

ZydisRegister accumulator(unsigned bits) {
    return bits == 8    ? ZYDIS_REGISTER_AL
           : bits == 16 ? ZYDIS_REGISTER_AX
           : bits == 32 ? ZYDIS_REGISTER_EAX
                        : ZYDIS_REGISTER_RAX;
}

/// Of the registers of one address size: RSI, RDI and RCX, and how they count.
class Counters {
public:
    Counters(Registers& registers, unsigned address_bits)
        : registers_{registers},
          bits_{address_bits} {}

    [[nodiscard]] std::uint64_t source() const { return low_bits(registers_.rsi, bits_); }
    [[nodiscard]] std::uint64_t destination() const { return low_bits(registers_.rdi, bits_); }
    [[nodiscard]] std::uint64_t count() const { return low_bits(registers_.rcx, bits_); }
    void advance(std::uint64_t& full, std::uint64_t step) const {
        const std::uint64_t value = low_bits(full + step, bits_);
        full = bits_ == 16 ? (full & ~std::uint64_t{0xffff}) | value : value;
    }

private:
    Registers& registers_;
    unsigned bits_;
};

class StringExecution {
public:
    StringExecution(Execution& execution, ExitHandler& handler, const Entry& entry)
        : execution_{execution},
          handler_{handler},
          kind_{entry.kind},
          bits_{entry.bits},
          counters_{execution.registers(), execution.instruction().fields.address_width} {}

    /// One iteration but for the count. All it touches is located before it reads: a device may
    /// change by being read.
    Step<void> iterate();
    [[nodiscard]] bool compares() const { return kind_ == Kind::compare || kind_ == Kind::scan; }
    [[nodiscard]] const Counters& counters() const { return counters_; }

private:
    [[nodiscard]] bool has_source() const {
        return kind_ == Kind::move || kind_ == Kind::load || kind_ == Kind::compare ||
               kind_ == Kind::output;
    }
    [[nodiscard]] bool has_destination() const {
        return kind_ != Kind::load && kind_ != Kind::output;
    }
    [[nodiscard]] SegmentName source_segment() const;
    Step<Place> locate(SegmentName segment, std::uint64_t offset, Access access);
    Step<void> transfer(const Place& source, const Place& destination);
    Step<void> compare(const Place& source, const Place& destination);
    void advance();

    Execution& execution_;
    ExitHandler& handler_;
    Kind kind_;
    unsigned bits_;
    Counters counters_;
};

/// DS, or what a prefix says. Zydis names it with the operand whose base is the source index.
SegmentName StringExecution::source_segment() const {
    for (const auto& operand : execution_.instruction().operands()) {
        if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY &&
            full_register(execution_.registers(), operand.mem.base) ==
                &execution_.registers().rsi) {
            return segment_name(operand.mem.segment).value_or(SegmentName::ds);
        }
    }
    return SegmentName::ds;
}

Step<Place> StringExecution::locate(SegmentName segment, std::uint64_t offset, Access access) {
    auto linear = linear_address(execution_.cpu(), segment, offset, bits_ / 8, access);
    if (!linear) {
        return stop(linear);
    }
    return execution_.memory().locate(*linear, bits_ / 8, access);
}

Step<void> StringExecution::compare(const Place& source, const Place& destination) {
    auto& registers = execution_.registers();
    Step<std::uint64_t> first = low_bits(registers.rax, bits_);
    if (kind_ == Kind::compare) {
        first = execution_.memory().read(source);
    }
    if (!first) {
        return stop(first);
    }
    auto second = execution_.memory().read(destination);
    if (!second) {
        return stop(second);
    }
    registers.rflags = subtract(bits_, *first, *second, registers.rflags).rflags;
    return {};
}

Step<void> StringExecution::transfer(const Place& source, const Place& destination) {
    auto& registers = execution_.registers();
    const auto port = static_cast<std::uint16_t>(registers.rdx);
    Step<std::uint64_t> value = registers.rax;
    if (has_source()) {
        value = execution_.memory().read(source);
    } else if (kind_ == Kind::input) {
        std::array<std::byte, 8> bytes{};
        handler_.port_read(port, std::span{bytes}.first(bits_ / 8));
        value = std::bit_cast<std::uint64_t>(bytes);
    }
    if (!value) {
        return stop(value);
    }
    if (has_destination()) {
        return execution_.memory().write(destination, *value);
    }
    if (kind_ == Kind::load) {
        write_register(registers, accumulator(bits_), *value);
    } else {
        const auto bytes = std::bit_cast<std::array<std::byte, 8>>(*value);
        handler_.port_write(port, std::span{bytes}.first(bits_ / 8));
    }
    return {};
}

Step<void> StringExecution::iterate() {
    Step<Place> source = Place{};
    if (has_source()) {
        source = locate(source_segment(), counters_.source(), Access::read);
    }
    if (!source) {
        return stop(source);
    }
    Step<Place> destination = Place{};
    if (has_destination()) {
        const Access access = compares() ? Access::read : Access::write;
        destination = locate(SegmentName::es, counters_.destination(), access);
    }
    if (!destination) {
        return stop(destination);
    }
    auto done = compares() ? compare(*source, *destination) : transfer(*source, *destination);
    if (done) {
        advance();
    }
    return done;
}

void StringExecution::advance() {
    auto& registers = execution_.registers();
    const std::uint64_t size = bits_ / 8;
    const std::uint64_t step = (registers.rflags & rflags::df) != 0 ? 0 - size : size;
    if (has_source()) {
        counters_.advance(registers.rsi, step);
    }
    if (has_destination()) {
        counters_.advance(registers.rdi, step);
    }
}

} // namespace

bool is_string_instruction(const Instruction& instruction) noexcept {
    // MOVSD and CMPSD are also names of SSE2.
    const auto category = instruction.fields.meta.category;
    return (category == ZYDIS_CATEGORY_STRINGOP || category == ZYDIS_CATEGORY_IOSTRINGOP) &&
           find(instruction.fields.mnemonic) != nullptr;
}

Step<Repetition> execute_string(Execution& execution, ExitHandler& handler) {
    const Entry* const entry = find(execution.instruction().fields.mnemonic);
    formats::invariant(entry != nullptr, "only string instructions are executed as such");
    StringExecution string{execution, handler, *entry};
    const std::uint8_t prefix = execution.instruction().repeat_prefix();
    if (prefix == 0) {
        auto done = string.iterate();
        if (!done) {
            return stop(done);
        }
        return Repetition::done;
    }
    auto& registers = execution.registers();
    const bool steps_singly = (registers.rflags & rflags::tf) != 0;
    const unsigned limit = steps_singly ? 1 : repetitions_per_call;
    for (unsigned done = 0; string.counters().count() != 0; ++done) {
        if (done == limit) {
            return Repetition::unfinished;
        }
        auto iterated = string.iterate();
        if (!iterated) {
            return stop(iterated);
        }
        string.counters().advance(registers.rcx, ~std::uint64_t{0});
        const bool is_equal = (registers.rflags & rflags::zf) != 0;
        if (string.compares() && is_equal == (prefix == 0xf2)) {
            break;
        }
    }
    return Repetition::done;
}

} // namespace wherry::vmm::x86
