// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/x86/cpu_state.hpp"
#include "vmm/x86/linear_memory.hpp"
#include "vmm/x86/step.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <Zydis/Decoder.h>

namespace wherry::vmm::x86 {

/// One decoded instruction, with its bytes for error texts.
struct Instruction {
    ZydisDecodedInstruction fields{};
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operand_storage{};
    std::array<std::byte, ZYDIS_MAX_INSTRUCTION_LENGTH> code{};

    [[nodiscard]] std::span<const ZydisDecodedOperand> operands() const noexcept {
        return std::span{operand_storage}.first(fields.operand_count);
    }
    /// 0xf2 or 0xf3, the last of them, or 0 where there is none.
    [[nodiscard]] std::uint8_t repeat_prefix() const noexcept;
    [[nodiscard]] bool is_locked() const noexcept;
    /// "mov (c7 07 01 00 00 00)".
    [[nodiscard]] std::string text() const;
};

/// Decodes what is at CS:RIP, of which `fetched` are the first bytes (may be none). CS's limit is
/// not looked at: the processor got as far as executing the instruction.
Step<Instruction>
decode(const CpuState& cpu, LinearMemory& memory, std::span<const std::byte> fetched);

} // namespace wherry::vmm::x86
