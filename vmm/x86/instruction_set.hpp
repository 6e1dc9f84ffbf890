// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/partition.hpp"
#include "vmm/x86/execution.hpp"

namespace wherry::vmm::x86 {

/// Executes an instruction that is no string instruction, but for RIP. An Error with code
/// `unsupported` names it where it is not in the table.
Step<void> execute(Execution& execution, ExitHandler& handler);

} // namespace wherry::vmm::x86
