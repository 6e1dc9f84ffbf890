// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::kvm {

inline constexpr std::uint32_t msr_tsc = 0x10;
inline constexpr std::uint32_t msr_tsc_deadline = 0x6e0;

/// Those of a vCPU's MSRs that can be read; the others are named in `unreadable`.
struct MsrReading {
    std::vector<Msr> msrs;
    std::vector<std::uint32_t> unreadable;
};
formats::Result<MsrReading> read_msrs(int vcpu, std::span<const std::uint32_t> indices);

/// Sets them in order. An MSR that is refused is an error that names it, unless it has the value
/// already or the value is zero, which is what absent hardware would hold.
formats::Status write_msrs(int vcpu, std::span<const Msr> msrs);

} // namespace wherry::vmm::kvm
