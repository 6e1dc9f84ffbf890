// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/vp_registers.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace wherry::vmm::mshv {

/// The register in which the hypervisor keeps an MSR of a guest's state. Those that are part of
/// SystemRegisters or HyperVState, and the TSC, are not among them.
std::optional<std::uint32_t> register_of_msr(std::uint32_t index) noexcept;

/// All that this guest has.
formats::Result<std::vector<Msr>> read_msrs(const VpRegisters& registers);

/// Fails naming the first that the hypervisor does not take or know, unless it has that value
/// already, the value is zero, or the MSR describes the host rather than the guest.
formats::Status write_msrs(const VpRegisters& registers, std::span<const Msr> msrs);

} // namespace wherry::vmm::mshv
