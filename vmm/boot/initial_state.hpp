// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/vcpu_state.hpp"

#include <vector>

namespace wherry::vmm::boot {

/// 32-bit flat protected mode without paging (Xen public headers, hvm/start_info.h).
SystemRegisters protected_mode();

/// Long mode with the low 4 GiB mapped 1:1; writes the descriptor table and page tables that this
/// takes. Selectors 0x10 and 0x18, as Linux's 64-bit boot protocol wants them.
formats::Result<SystemRegisters> long_mode(GuestMemory& memory);

/// Firmware's part of the MSRs: all memory write-back, which the caching of device memory by page
/// tables overrides.
std::vector<Msr> firmware_msrs();

} // namespace wherry::vmm::boot
