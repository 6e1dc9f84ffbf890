// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/partition.hpp"
#include "vmm/x86/execution.hpp"

#include <cstdint>

namespace wherry::vmm::x86 {

/// Whether a REP has more to do than `repetitions_per_call`.
enum class Repetition : std::uint8_t { done, unfinished };

[[nodiscard]] bool is_string_instruction(const Instruction& instruction) noexcept;

/// MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, with REP where there is one. When it stops, the
/// registers are those before the iteration that could not be made.
Step<Repetition> execute_string(Execution& execution, ExitHandler& handler);

} // namespace wherry::vmm::x86
