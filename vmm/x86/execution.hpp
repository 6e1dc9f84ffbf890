// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/x86/cpu_state.hpp"
#include "vmm/x86/decoder.hpp"
#include "vmm/x86/linear_memory.hpp"
#include "vmm/x86/step.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace wherry::vmm::x86 {

/// One instruction under way: its operands by number, on a copy of the registers that the caller
/// takes over when nothing stopped it. What the instruction functions are written in terms of.
class Execution {
public:
    Execution(CpuState& cpu, LinearMemory& memory, const Instruction& instruction)
        : cpu_{cpu},
          memory_{memory},
          instruction_{instruction} {}

    [[nodiscard]] Registers& registers() noexcept { return cpu_.registers; }
    [[nodiscard]] LinearMemory& memory() noexcept { return memory_; }
    [[nodiscard]] const CpuState& cpu() const noexcept { return cpu_; }
    [[nodiscard]] const Instruction& instruction() const noexcept { return instruction_; }
    [[nodiscard]] const ZydisDecodedOperand& operand(std::size_t index) const noexcept {
        return instruction_.operand_storage[index];
    }
    [[nodiscard]] unsigned bits(std::size_t index) const noexcept { return operand(index).size; }

    /// The value of an operand of any kind, zero-extended from its size; immediates are extended
    /// as the instruction says.
    Step<std::uint64_t> value(std::size_t index);
    /// Writes a register or memory operand.
    Step<void> assign(std::size_t index, std::uint64_t value);

    /// Reads an operand and writes what `change` (old value to new value) makes of it, in one step
    /// as others see it where the instruction is locked or an XCHG. The old value. `change` may be
    /// called again when another vCPU was quicker.
    template <typename Change>
    Step<std::uint64_t> modify(std::size_t index, Change change) {
        return modify_at(index, 0, std::move(change));
    }
    /// As modify(), on the memory `displacement` bytes away from what the operand says.
    template <typename Change>
    Step<std::uint64_t> modify_at(std::size_t index, std::int64_t displacement, Change change) {
        if (operand(index).type != ZYDIS_OPERAND_TYPE_MEMORY) {
            auto before = value(index);
            if (before) {
                auto assigned = assign(index, change(*before));
                if (!assigned) {
                    return stop(assigned);
                }
            }
            return before;
        }
        auto place = locate(index, Access::write, displacement);
        if (!place) {
            return stop(place);
        }
        while (true) {
            auto before = memory_.read(*place);
            if (!before) {
                return before;
            }
            auto done = memory_.exchange(*place, *before, change(*before));
            if (!done) {
                return stop(done);
            }
            if (*done) {
                return before;
            }
        }
    }

    /// Where a memory operand is, `displacement` bytes further; raises what the access would.
    Step<Place> locate(std::size_t index, Access access, std::int64_t displacement = 0);

private:
    [[nodiscard]] std::uint64_t effective_address(const ZydisDecodedOperandMem& memory) const;

    CpuState& cpu_;
    LinearMemory& memory_;
    const Instruction& instruction_;
};

} // namespace wherry::vmm::x86
