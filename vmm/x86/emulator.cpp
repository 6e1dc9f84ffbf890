// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/emulator.hpp"

#include "vmm/x86/decoder.hpp"
#include "vmm/x86/execution.hpp"
#include "vmm/x86/instruction_set.hpp"
#include "vmm/x86/linear_memory.hpp"
#include "vmm/x86/register_file.hpp"
#include "vmm/x86/string_instructions.hpp"

#include <fmt/format.h>

namespace wherry::vmm::x86 {

namespace {

constexpr std::uint64_t dr6_single_step = 1U << 14U;

Step<Repetition> execute_any(Execution& execution, ExitHandler& handler) {
    if (is_string_instruction(execution.instruction())) {
        return execute_string(execution, handler);
    }
    auto done = execute(execution, handler);
    if (!done) {
        return stop(done);
    }
    return Repetition::done;
}

/// The outcome of a stop with these registers, or the error it stands for.
formats::Result<Outcome> ended_by(Stop cause, const Registers& registers) {
    if (auto* const error = std::get_if<formats::Error>(&cause)) {
        return formats::fail(std::move(*error).during(
            fmt::format("emulating the instruction at RIP {:#x}", registers.rip)));
    }
    return Outcome{.registers = registers, .exception = std::get<Exception>(cause)};
}

} // namespace

formats::Result<Outcome> emulate(
    const CpuState& cpu,
    GuestMemory& memory,
    ExitHandler& handler,
    std::span<const std::byte> fetched) {
    CpuState now = cpu;
    LinearMemory linear{now, memory, handler};
    auto instruction = decode(now, linear, fetched);
    if (!instruction) {
        return ended_by(std::move(instruction.error()), cpu.registers);
    }
    Execution execution{now, linear, *instruction};
    auto done = execute_any(execution, handler);
    if (!done) {
        // Whole iterations of a REP stand; anything else that stops has written no register.
        return ended_by(std::move(done.error()), now.registers);
    }
    if (*done == Repetition::done) {
        now.registers.rip =
            low_bits(now.registers.rip + instruction->fields.length, code_bits(now));
        now.registers.rflags &= ~rflags::rf;
    }
    Outcome outcome{.registers = now.registers, .exception = std::nullopt};
    if ((cpu.registers.rflags & rflags::tf) != 0) {
        outcome.exception = Exception{.vector = vector::debug, .parameter = dr6_single_step};
    }
    return outcome;
}

} // namespace wherry::vmm::x86
