// SPDX-License-Identifier: Apache-2.0
#include "vmm/general_registers.hpp"
#include "vmm/mshvsim/instruction.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {
namespace {

constexpr std::uint64_t direction_flag = 1U << 10U;
/// KVM's emulator has it set between two rounds of a repeated string instruction, and after the
/// last: RIP stands at the instruction then.
constexpr std::uint64_t resume_flag = 1U << 16U;

std::uint64_t number_in(std::span<const std::byte> data) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < std::min<std::size_t>(data.size(), 8); ++i) {
        value |= std::uint64_t{static_cast<std::uint8_t>(data[i])} << (8 * i);
    }
    return value;
}

std::uint64_t low_bytes(std::uint64_t value, std::size_t size) {
    return size >= 8 ? value : value & ((std::uint64_t{1} << (8 * size)) - 1);
}

std::uint64_t step_back(const Registers& of, std::uint8_t size) {
    return (of.rflags & direction_flag) != 0 ? size : std::uint64_t{0} - size;
}

/// Registers before one round of a string instruction.
Registers before_round(const Registers& after, const Instruction& at, bool source, bool target) {
    Registers before = after;
    before.rflags &= at.is_repeated ? ~resume_flag : ~std::uint64_t{0};
    const std::uint64_t step = step_back(after, at.operand_size);
    if (source) {
        before.rsi = with_count(after.rsi, after.rsi + step, at.address_size);
    }
    if (target) {
        before.rdi = with_count(after.rdi, after.rdi + step, at.address_size);
    }
    if (at.is_repeated) {
        before.rcx =
            with_count(after.rcx, counted(after.rcx, at.address_size) + 1, at.address_size);
    }
    return before;
}

bool is_store_of_string(const Instruction& at) {
    return at.map == 0 && (at.opcode == 0xaa || at.opcode == 0xab || at.opcode == 0xa4 ||
                           at.opcode == 0xa5 || at.opcode == 0x6c || at.opcode == 0x6d);
}

/// The value of register `reg` as a byte instruction sees it: AH...BH without REX.
std::uint64_t register_value(const CodeView& view, const Instruction& at) {
    if (at.operand_size == 1 && !at.has_rex && at.reg >= 4 && at.reg < 8) {
        return general(view.registers, at.reg - 4U) >> 8U;
    }
    return general(view.registers, at.reg);
}

/// What a plain store writes, where that can be told.
std::optional<std::uint64_t> stored_value(const CodeView& view, const Instruction& at) {
    if (at.map != 0) {
        return at.map == 1 && at.opcode == 0xc3 ? std::optional{register_value(view, at)}
                                                : std::nullopt;
    }
    switch (at.opcode) {
    case 0x88:
    case 0x89:
        return register_value(view, at);
    case 0xa2:
    case 0xa3:
    case 0xaa:
    case 0xab:
        return view.registers.rax;
    case 0xc6:
    case 0xc7:
        return at.immediate;
    default:
        return std::nullopt;
    }
}

bool may_store(const Instruction& at) {
    if (!at.has_memory) {
        return false;
    }
    if (at.reads_and_writes() || is_store_of_string(at)) {
        return true;
    }
    if (at.map == 1) {
        return (at.opcode >= 0x90 && at.opcode <= 0x9f) || at.opcode == 0xc3 || at.opcode == 0x11 ||
               at.opcode == 0x13 || at.opcode == 0x17 || at.opcode == 0x29 || at.opcode == 0x2b ||
               at.opcode == 0x7e || at.opcode == 0x7f || at.opcode == 0xd6 || at.opcode == 0xe7 ||
               at.opcode == 0xae || at.opcode == 0x01;
    }
    if (at.map == 2) {
        return at.opcode == 0xf1;
    }
    return at.opcode == 0x88 || at.opcode == 0x89 || at.opcode == 0x8c || at.opcode == 0xa2 ||
           at.opcode == 0xa3 || ((at.opcode == 0xc6 || at.opcode == 0xc7) && (at.reg & 7U) == 0) ||
           (at.opcode == 0x8f && (at.reg & 7U) == 0) || (at.opcode >= 0xd8 && at.opcode <= 0xdf);
}

/// How many bytes of the store the first piece must be; 0: any.
std::size_t stored_size(const Instruction& at) {
    if (at.map == 0 && at.opcode == 0x8c) {
        return 2;
    }
    const bool is_plain = at.map == 0 && !(at.opcode >= 0xd8 && at.opcode <= 0xdf);
    return is_plain || (at.map == 1 && at.opcode == 0xc3) ? at.operand_size : 0;
}

/// Would `at`, which ended at RIP, have written this?
bool has_written(const CodeView& view, const Instruction& at, const MemoryWrite& write) {
    const std::size_t size = stored_size(at);
    if (!may_store(at) || !write.is_place(at.linear) || (size != 0 && write.data.size() > size)) {
        return false;
    }
    const bool is_whole = size == 0 || write.data.size() == size;
    const auto value = stored_value(view, at);
    // A store over the end of a page comes in pieces: only the first is here.
    return (is_whole || size > 1) &&
           (!value || low_bytes(*value, write.data.size()) == number_in(write.data));
}

std::optional<Undone>
undo_push(const CodeView& view, const Instruction& at, const MemoryWrite& write) {
    const bool is_push =
        at.map == 0 && ((at.opcode >= 0x50 && at.opcode <= 0x57) || at.opcode == 0x68 ||
                        at.opcode == 0x6a || (at.opcode == 0xff && (at.reg & 7U) == 6));
    const std::uint64_t top = view.registers.rsp + (view.is_long() ? 0 : view.system.ss.base);
    if (!is_push || !write.is_place(top)) {
        return std::nullopt;
    }
    Undone undone{.registers = view.registers, .instruction = at};
    undone.registers.rsp += write.data.size();
    undone.registers.rip -= at.length;
    return undone;
}

/// The view as of before an instruction of `length` that has moved its string pointers.
std::optional<Undone>
undo_one(const CodeView& view, std::span<const std::byte> code, const MemoryWrite& write) {
    CodeView start = view;
    start.registers.rip -= code.size();
    auto at = decode(code, start);
    if (!at || at->length != code.size()) {
        return std::nullopt;
    }
    if (auto push = undo_push(view, *at, write)) {
        return push;
    }
    if (is_store_of_string(*at)) {
        if (at->is_repeated && counted(view.registers.rcx, at->address_size) != 0) {
            return std::nullopt; // it would not have ended
        }
        const bool moves = at->opcode == 0xa4 || at->opcode == 0xa5;
        start.registers = before_round(view.registers, *at, moves, true);
        start.registers.rip -= code.size();
        at = decode(code, start);
    }
    if (at && has_written(start, *at, write)) {
        return Undone{.registers = start.registers, .instruction = *at};
    }
    return std::nullopt;
}

/// A repeated string instruction at RIP that has done a round.
std::optional<Undone>
undo_round(const CodeView& view, std::span<const std::byte> at_rip, const MemoryWrite& write) {
    auto at = decode(at_rip, view);
    if (!at || !is_store_of_string(*at) || !at->is_repeated) {
        return std::nullopt;
    }
    CodeView start = view;
    const bool moves = at->opcode == 0xa4 || at->opcode == 0xa5;
    start.registers = before_round(view.registers, *at, moves, true);
    at = decode(at_rip, start);
    if (at && has_written(start, *at, write)) {
        return Undone{.registers = start.registers, .instruction = *at};
    }
    return std::nullopt;
}

} // namespace

std::optional<Undone> undo_write(
    const CodeView& view,
    std::span<const std::byte> before_rip,
    std::span<const std::byte> at_rip,
    const MemoryWrite& write) {
    if ((view.registers.rflags & resume_flag) != 0) {
        if (auto round = undo_round(view, at_rip, write)) {
            return round;
        }
    }
    std::optional<Undone> found;
    for (std::size_t length = 1; length <= before_rip.size(); ++length) {
        auto candidate = undo_one(view, before_rip.last(length), write);
        if (!candidate) {
            continue;
        }
        // The shortest has the same effect as the true one, which may have prefixes more; only
        // REP makes a difference, and then RCX has run out.
        const bool adds_rep =
            found && candidate->instruction.is_repeated && candidate->instruction.is_string();
        if (!found || adds_rep) {
            found = candidate;
        }
    }
    return found;
}

std::optional<Undone> undo_port_write(
    const CodeView& view,
    std::span<const std::byte> before_rip,
    std::span<const std::byte> at_rip,
    std::uint16_t port,
    std::uint8_t size) {
    const auto fits = [&](const Instruction& at) {
        const bool by_dx =
            at.opcode == 0xee || at.opcode == 0xef || at.opcode == 0x6e || at.opcode == 0x6f;
        const bool by_number = at.opcode == 0xe6 || at.opcode == 0xe7;
        const auto named =
            static_cast<std::uint16_t>(by_dx ? view.registers.rdx & 0xffff : at.immediate & 0xff);
        return at.map == 0 && (by_dx || by_number) && named == port &&
               std::min<std::uint8_t>(at.operand_size, 4) == size;
    };
    const auto next = decode(at_rip, view);
    if ((view.registers.rflags & resume_flag) != 0 && next && fits(*next) && next->is_string() &&
        next->is_repeated) {
        return Undone{
            .registers = before_round(view.registers, *next, true, false), .instruction = *next};
    }
    std::optional<Undone> found;
    for (std::size_t length = 1; length <= before_rip.size(); ++length) {
        CodeView start = view;
        start.registers.rip -= length;
        const auto at = decode(before_rip.last(length), start);
        if (!at || at->length != length || !fits(*at)) {
            continue;
        }
        const bool is_done = !at->is_repeated || counted(view.registers.rcx, at->address_size) == 0;
        if (!at->is_string()) {
            if (!found) {
                found = Undone{.registers = start.registers, .instruction = *at};
            }
        } else if (is_done && (!found || at->is_repeated)) {
            Undone undone{
                .registers = before_round(view.registers, *at, true, false), .instruction = *at};
            undone.registers.rip -= length;
            found = undone;
        }
    }
    return found;
}

} // namespace wherry::vmm::mshvsim
