// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>

namespace wherry::vmm::soft {

/// Unicorn 2.0.1 walks the guest's page tables for permissions, then accesses the *virtual* address
/// as if it were physical. A guest that maps anything elsewhere would silently work on the wrong
/// memory. Fails with ErrorCode::guest, naming the first page of RAM that the 4-level tables at
/// `cr3` map to another address. Pages that map no RAM are not looked at.
formats::Status check_identity_mapping(const GuestMemory& memory, std::uint64_t cr3);

} // namespace wherry::vmm::soft
