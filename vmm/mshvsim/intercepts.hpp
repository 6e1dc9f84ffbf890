// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshvsim/cpu_shadow.hpp"
#include "vmm/mshvsim/engine.hpp"

namespace wherry::vmm::mshvsim {

/// Sheet section 4: messages out of an exit and the registers of before the instruction.
struct InterceptSource {
    std::uint64_t partition_id = 0;
    std::uint32_t vp_index = 0;
    CpuShadow& shadow;
    std::span<const std::byte> code; ///< at RIP, up to 16 bytes
};
mshv::abi::messages::Message port_intercept(const InterceptSource& from, const Exit& exit);
mshv::abi::messages::Message memory_intercept(const InterceptSource& from, const Exit& exit);
/// UNRECOVERABLE_EXCEPTION and HALT: the header alone.
mshv::abi::messages::Message bare_intercept(const InterceptSource& from, std::uint32_t type);
mshv::abi::messages::Message end_of_interrupt(const InterceptSource& from, std::uint32_t vector);
mshv::abi::messages::Message invalid_register(const InterceptSource& from);
mshv::abi::messages::Message unsupported(const InterceptSource& from, std::uint64_t parameter);

} // namespace wherry::vmm::mshvsim
