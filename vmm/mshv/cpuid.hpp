// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/descriptor.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::mshv {

/// All that the hypervisor answers a VP that nothing was registered for.
formats::Result<std::vector<CpuidEntry>> read_cpuid(const Descriptor& vp, std::uint32_t index);

/// In kHz; 0 where it is not known.
struct GuestFrequencies {
    std::uint64_t tsc = 0, apic_timer = 0;
};

/// What of it a guest is offered: as on KVM, but for the hypervisor's own leaves, which are as the
/// hypervisor has them; behind these, leaf 0x40000010 with the frequencies. Pure.
std::vector<CpuidEntry>
offered_cpuid(std::span<const CpuidEntry> answered, const GuestFrequencies& frequencies);

/// Registers what VP `index` of `vcpus` is to be answered. Leaves in `answered` that are not in
/// `cpuid` become zero. Left to the hypervisor are its own leaves that `cpuid` has as `answered`
/// has them, and those bits that follow the VP's control registers. A guest that sees Hyper-V does
/// without leaves that the hypervisor does not let us add to its own.
formats::Status register_cpuid(
    const Descriptor& vp,
    std::uint32_t index,
    std::uint32_t vcpus,
    std::span<const CpuidEntry> cpuid,
    std::span<const CpuidEntry> answered);

} // namespace wherry::vmm::mshv
