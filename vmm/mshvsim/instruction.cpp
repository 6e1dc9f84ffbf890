// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/instruction.hpp"

#include "vmm/general_registers.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {
namespace {

constexpr std::size_t longest = 15;
constexpr std::uint64_t efer_lma = 1U << 10U;
constexpr std::uint64_t cr0_pe = 1U << 0U;
constexpr std::uint64_t rflags_vm = 1U << 17U;

/// Reads bytes off the front; sticky failure.
class Bytes {
public:
    explicit Bytes(std::span<const std::byte> code)
        : code_{code.first(std::min(code.size(), longest))} {}
    std::uint8_t next() {
        if (at_ >= code_.size()) {
            is_short_ = true;
            return 0;
        }
        return static_cast<std::uint8_t>(code_[at_++]);
    }
    [[nodiscard]] std::uint8_t peek() const {
        return at_ < code_.size() ? static_cast<std::uint8_t>(code_[at_]) : std::uint8_t{0};
    }
    /// `size` bytes, sign-extended.
    std::uint64_t number(std::uint8_t size) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            value |= std::uint64_t{next()} << (8 * i);
        }
        const unsigned unused = size == 0 ? 0 : 64 - 8U * size;
        return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << unused) >> unused);
    }
    [[nodiscard]] std::uint8_t position() const { return static_cast<std::uint8_t>(at_); }
    [[nodiscard]] bool is_short() const { return is_short_; }

private:
    std::span<const std::byte> code_;
    std::size_t at_ = 0;
    bool is_short_ = false;
};

struct Prefixes {
    bool operand = false, address = false, repeat = false;
    std::uint8_t rex = 0;
    const Segment* segment = nullptr;
};

Prefixes read_prefixes(Bytes& bytes, const CodeView& view) {
    Prefixes prefixes;
    for (;; bytes.next()) {
        switch (bytes.peek()) {
        case 0x66:
            prefixes.operand = true;
            break;
        case 0x67:
            prefixes.address = true;
            break;
        case 0xf2:
        case 0xf3:
            prefixes.repeat = true;
            break;
        case 0xf0:
            break;
        case 0x26:
            prefixes.segment = &view.system.es;
            break;
        case 0x2e:
            prefixes.segment = &view.system.cs;
            break;
        case 0x36:
            prefixes.segment = &view.system.ss;
            break;
        case 0x3e:
            prefixes.segment = &view.system.ds;
            break;
        case 0x64:
            prefixes.segment = &view.system.fs;
            break;
        case 0x65:
            prefixes.segment = &view.system.gs;
            break;
        default:
            if (view.is_long() && (bytes.peek() & 0xf0U) == 0x40) {
                prefixes.rex = bytes.next();
            }
            return prefixes;
        }
        if (bytes.position() >= longest) {
            return prefixes;
        }
    }
}

bool is_string_opcode(std::uint8_t map, std::uint8_t opcode) {
    return map == 0 && ((opcode >= 0x6c && opcode <= 0x6f) || (opcode >= 0xa4 && opcode <= 0xa7) ||
                        (opcode >= 0xaa && opcode <= 0xaf));
}

bool has_modrm(std::uint8_t map, std::uint8_t op) {
    if (map >= 2) {
        return true;
    }
    if (map == 1) {
        const bool none = op <= 0x0b
                              ? op >= 0x04 && op != 0x0a
                              : (op >= 0x30 && op <= 0x37) || op == 0x77 ||
                                    (op >= 0x80 && op <= 0x8f) || (op >= 0xa0 && op <= 0xa2) ||
                                    (op >= 0xa8 && op <= 0xaa) || (op >= 0xc8 && op <= 0xcf);
        return !none;
    }
    return (op < 0x40 && (op & 7U) < 4) || op == 0x62 || op == 0x63 || op == 0x69 || op == 0x6b ||
           (op >= 0x80 && op <= 0x8f) || op == 0xc0 || op == 0xc1 || (op >= 0xc4 && op <= 0xc7) ||
           (op >= 0xd0 && op <= 0xd3) || (op >= 0xd8 && op <= 0xdf) || op == 0xf6 || op == 0xf7 ||
           op == 0xfe || op == 0xff;
}

std::uint8_t immediate_size(const Instruction& at, std::uint8_t modrm_reg) {
    const auto full = std::min<std::uint8_t>(at.operand_size, 4);
    const auto op = at.opcode;
    if (at.map == 3) {
        return 1;
    }
    if (at.map == 1) {
        const bool has_byte = (op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac ||
                              op == 0xba || op == 0xc2 || (op >= 0xc4 && op <= 0xc6);
        return has_byte ? 1 : 0;
    }
    if (at.map == 2) {
        return 0;
    }
    if (op == 0x69 || op == 0x81 || op == 0xc7 || op == 0x68) {
        return full;
    }
    if (op == 0xf7) {
        return modrm_reg < 2 ? full : std::uint8_t{0};
    }
    if (op == 0xf6) {
        return modrm_reg < 2 ? 1 : 0;
    }
    const bool has_byte = op == 0x6a || op == 0x6b || op == 0x80 || op == 0x82 || op == 0x83 ||
                          op == 0xc0 || op == 0xc1 || op == 0xc6 || (op >= 0xe4 && op <= 0xe7) ||
                          (op < 0x40 && (op & 7U) == 4);
    return has_byte ? 1 : 0;
}

std::uint64_t truncated(std::uint64_t value, std::uint8_t size) {
    return size >= 8 ? value : value & ((std::uint64_t{1} << (8U * size)) - 1);
}

std::uint64_t
linear_of(const CodeView& view, const Segment& segment, std::uint64_t offset, std::uint8_t size) {
    offset = truncated(offset, size);
    if (!view.is_long()) {
        return truncated(segment.base + offset, 4);
    }
    const bool has_base = &segment == &view.system.fs || &segment == &view.system.gs;
    return offset + (has_base ? segment.base : 0);
}

/// A memory operand; RIP is added later, when the length is known.
struct Operand {
    bool is_memory = false, is_rip_relative = false, uses_stack = false;
    std::uint64_t offset = 0;
};

Operand read_short_operand(Bytes& bytes, const CodeView& view, std::uint8_t mod, std::uint8_t rm) {
    const Registers& r = view.registers;
    const std::uint64_t bases[8] = {
        r.rbx + r.rsi, r.rbx + r.rdi, r.rbp + r.rsi, r.rbp + r.rdi, r.rsi, r.rdi, r.rbp, r.rbx};
    Operand operand{.is_memory = true};
    if (mod == 0 && rm == 6) {
        operand.offset = bytes.number(2);
        return operand;
    }
    operand.uses_stack = rm == 2 || rm == 3 || rm == 6;
    operand.offset = bases[rm] + bytes.number(mod); // mod 1: 1 byte, 2: 2 bytes
    return operand;
}

Operand read_operand(Bytes& bytes, const CodeView& view, std::uint8_t modrm, std::uint8_t rex) {
    const auto mod = static_cast<std::uint8_t>(modrm >> 6U);
    const auto rm = static_cast<std::uint8_t>(modrm & 7U);
    Operand operand{.is_memory = true};
    if (rm == 4) {
        const std::uint8_t sib = bytes.next();
        const unsigned index = ((sib >> 3U) & 7U) | ((rex & 2U) << 2U);
        const unsigned base = (sib & 7U) | ((rex & 1U) << 3U);
        if (index != 4) {
            operand.offset = general(view.registers, index) << (sib >> 6U);
        }
        if ((sib & 7U) == 5 && mod == 0) {
            operand.offset += bytes.number(4);
        } else {
            operand.offset += general(view.registers, base);
            operand.uses_stack = base == 4 || base == 5;
        }
    } else if (rm == 5 && mod == 0) {
        operand.offset = bytes.number(4);
        operand.is_rip_relative = view.is_long();
    } else {
        const unsigned base = rm | ((rex & 1U) << 3U);
        operand.offset = general(view.registers, base);
        operand.uses_stack = base == 5;
    }
    if (mod == 1 || mod == 2) {
        operand.offset += bytes.number(mod == 1 ? 1 : 4);
    }
    return operand;
}

bool is_byte_form(std::uint8_t map, std::uint8_t op) {
    if (map == 1) {
        return op == 0xb0 || op == 0xc0 || (op >= 0x90 && op <= 0x9f) || op == 0xb6 || op == 0xbe;
    }
    return map == 0 && (op & 1U) == 0 &&
           (op < 0x40 || (op >= 0x80 && op <= 0x8a && op != 0x8c) || is_string_opcode(0, op) ||
            op == 0xa0 || op == 0xa2 || op == 0xc0 || op == 0xc6 || op == 0xd0 || op == 0xd2 ||
            op == 0xe4 || op == 0xe6 || op == 0xec || op == 0xee || op == 0xf6 || op == 0xfe);
}

void read_opcode(Bytes& bytes, Instruction& at) {
    at.opcode = bytes.next();
    if (at.opcode != 0x0f) {
        return;
    }
    at.map = 1;
    at.opcode = bytes.next();
    if (at.opcode == 0x38 || at.opcode == 0x3a) {
        at.map = at.opcode == 0x38 ? 2 : 3;
        at.opcode = bytes.next();
    }
}

void set_sizes(Instruction& at, const Prefixes& prefixes, const CodeView& view) {
    const bool big = view.is_big();
    if (view.is_long()) {
        at.operand_size = (prefixes.rex & 8U) != 0 ? 8 : prefixes.operand ? 2 : 4;
        at.address_size = prefixes.address ? 4 : 8;
        const bool is_stack =
            at.map == 0 && ((at.opcode >= 0x50 && at.opcode <= 0x5f) || at.opcode == 0x68 ||
                            at.opcode == 0x6a || at.opcode == 0x8f);
        if (is_stack && !prefixes.operand) {
            at.operand_size = 8;
        }
    } else {
        at.operand_size = big != prefixes.operand ? 4 : 2;
        at.address_size = big != prefixes.address ? 4 : 2;
    }
    if (is_byte_form(at.map, at.opcode)) {
        at.operand_size = 1;
    }
}

void set_string_operands(Instruction& at, const Prefixes& prefixes, const CodeView& view) {
    const Segment& source = prefixes.segment != nullptr ? *prefixes.segment : view.system.ds;
    at.has_memory = true;
    at.source = linear_of(view, source, view.registers.rsi, at.address_size);
    at.linear = linear_of(view, view.system.es, view.registers.rdi, at.address_size);
}

} // namespace

bool CodeView::is_long() const noexcept {
    return (system.efer & efer_lma) != 0 && (system.cs.attributes & (1U << 13U)) != 0;
}

bool CodeView::is_big() const noexcept {
    const bool is_protected = (system.cr0 & cr0_pe) != 0 && (registers.rflags & rflags_vm) == 0;
    return is_protected && (system.cs.attributes & (1U << 14U)) != 0;
}

bool Instruction::is_string() const noexcept {
    return is_string_opcode(map, opcode);
}

bool Instruction::reads_and_writes() const noexcept {
    if (map == 1) {
        return opcode == 0xb0 || opcode == 0xb1 || opcode == 0xc0 || opcode == 0xc1 ||
               opcode == 0xc7 || opcode == 0xab || opcode == 0xb3 || opcode == 0xbb ||
               (opcode == 0xba && (reg & 7U) > 4) || opcode == 0xa4 || opcode == 0xa5 ||
               opcode == 0xac || opcode == 0xad;
    }
    if (map != 0) {
        return false;
    }
    if (opcode < 0x38) {
        return (opcode & 7U) < 2;
    }
    return (opcode >= 0x80 && opcode <= 0x83 && (reg & 7U) != 7) || opcode == 0x86 ||
           opcode == 0x87 || opcode == 0xc0 || opcode == 0xc1 ||
           (opcode >= 0xd0 && opcode <= 0xd3) ||
           ((opcode == 0xf6 || opcode == 0xf7) && ((reg & 7U) == 2 || (reg & 7U) == 3)) ||
           ((opcode == 0xfe || opcode == 0xff) && (reg & 7U) < 2);
}

std::optional<Instruction> decode(std::span<const std::byte> code, const CodeView& view) {
    Bytes bytes{code};
    const Prefixes prefixes = read_prefixes(bytes, view);
    Instruction at;
    at.has_rex = prefixes.rex != 0;
    at.is_repeated = prefixes.repeat;
    read_opcode(bytes, at);
    set_sizes(at, prefixes, view);
    if (view.is_long() && at.map == 0 &&
        (at.opcode == 0xc4 || at.opcode == 0xc5 || at.opcode == 0x62)) {
        return std::nullopt;
    }
    Operand operand;
    if (has_modrm(at.map, at.opcode)) {
        const std::uint8_t modrm = bytes.next();
        at.reg = static_cast<std::uint8_t>(((modrm >> 3U) & 7U) | ((prefixes.rex & 4U) << 1U));
        if (modrm < 0xc0) {
            operand = at.address_size == 2
                          ? read_short_operand(
                                bytes, view, static_cast<std::uint8_t>(modrm >> 6U), modrm & 7U)
                          : read_operand(bytes, view, modrm, prefixes.rex);
        }
    } else if (at.map == 0 && at.opcode >= 0xa0 && at.opcode <= 0xa3) {
        operand.is_memory = true;
        operand.offset = bytes.number(at.address_size);
    }
    at.immediate = bytes.number(immediate_size(at, at.reg & 7U));
    at.length = bytes.position();
    if (bytes.is_short() || at.length == 0) {
        return std::nullopt;
    }
    if (at.is_string()) {
        set_string_operands(at, prefixes, view);
    } else if (operand.is_memory) {
        const Segment& usual = operand.uses_stack ? view.system.ss : view.system.ds;
        const Segment& segment = prefixes.segment != nullptr ? *prefixes.segment : usual;
        const std::uint64_t from_rip = operand.is_rip_relative ? view.registers.rip + at.length : 0;
        at.has_memory = true;
        at.linear = linear_of(view, segment, operand.offset + from_rip, at.address_size);
    }
    return at;
}

std::uint64_t counted(std::uint64_t value, std::uint8_t address_size) noexcept {
    return truncated(value, address_size);
}

std::uint64_t
with_count(std::uint64_t old, std::uint64_t value, std::uint8_t address_size) noexcept {
    if (address_size == 2) {
        return (old & ~std::uint64_t{0xffff}) | (value & 0xffff);
    }
    return truncated(value, address_size);
}

} // namespace wherry::vmm::mshvsim
