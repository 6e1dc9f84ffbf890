// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <string>
#include <vector>

namespace wherry::vmm {

/// What of `found`, read back from a vCPU that was given `wanted`, is not as wanted: one phrase
/// each ("MSR 0xc0000082 is 0x0, not 0x1234"). Left out is what moves by itself or belongs to the
/// host: counters, running timers and what they have raised, identification registers.
std::vector<std::string> differences(const VcpuState& wanted, const VcpuState& found);

} // namespace wherry::vmm
