// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

namespace wherry::vmm::mshvsim {

/// What it takes to make out what an instruction does to memory and ports.
struct CodeView {
    Registers registers;
    SystemRegisters system;
    [[nodiscard]] bool is_long() const noexcept; ///< 64-bit code
    [[nodiscard]] bool is_big() const noexcept;  ///< 32-bit code
};

/// One instruction, as far as completing or undoing accesses needs it. Vector extensions (VEX,
/// EVEX) are not told apart: KVM's emulator refuses them too.
struct Instruction {
    std::uint8_t length = 0; ///< 0 < length <= 15
    std::uint8_t map = 0;    ///< 0 one byte, 1 0F, 2 0F38, 3 0F3A
    std::uint8_t opcode = 0;
    std::uint8_t reg = 0; ///< ModRM.reg with REX.R
    std::uint8_t operand_size = 0;
    std::uint8_t address_size = 0;
    bool is_repeated = false; ///< REP, REPE or REPNE
    bool has_rex = false;
    bool has_memory = false;     ///< a ModRM, moffs or string operand in memory
    std::uint64_t linear = 0;    ///< address of that operand; of a string's destination
    std::uint64_t source = 0;    ///< address of a string's source
    std::uint64_t immediate = 0; ///< sign-extended

    [[nodiscard]] bool is_string() const noexcept; ///< MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS
    [[nodiscard]] bool reads_and_writes() const noexcept;
};

/// The instruction that `code` begins with; nothing where it is cut short or not known.
std::optional<Instruction> decode(std::span<const std::byte> code, const CodeView& view);

/// Which instruction, ending where `before_rip` ends, wrote `data`: its registers of before.
struct Undone {
    Registers registers;
    Instruction instruction;
};
struct MemoryWrite {
    /// Is this the linear address of the access?
    std::function<bool(std::uint64_t linear)> is_place;
    std::span<const std::byte> data; ///< the first piece, up to 8 bytes
};
/// `before_rip`: up to 15 bytes that end at RIP; `at_rip`: what follows. `view` is of afterwards.
std::optional<Undone> undo_write(
    const CodeView& view,
    std::span<const std::byte> before_rip,
    std::span<const std::byte> at_rip,
    const MemoryWrite& write);
std::optional<Undone> undo_port_write(
    const CodeView& view,
    std::span<const std::byte> before_rip,
    std::span<const std::byte> at_rip,
    std::uint16_t port,
    std::uint8_t size);

/// RCX as an instruction with this address size counts.
std::uint64_t counted(std::uint64_t value, std::uint8_t address_size) noexcept;
std::uint64_t
with_count(std::uint64_t old, std::uint64_t value, std::uint8_t address_size) noexcept;

} // namespace wherry::vmm::mshvsim
