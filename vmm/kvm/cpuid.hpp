// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/kvm/system.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::kvm {

/// What the host's KVM supports, as it says.
formats::Result<std::vector<CpuidEntry>> supported_cpuid(const System& system);

/// What a guest is offered out of `supported`: without nested virtualisation, MWAIT, performance
/// counters and whatever keeps state that cannot be carried to another host; with the TSC
/// frequency in leaf 0x40000010. APIC ids and topology are left blank: they differ by vCPU.
struct CpuidPolicy {
    bool has_tsc_deadline_timer = false;
    std::uint64_t tsc_frequency_khz = 0;
};
std::vector<CpuidEntry> offered_cpuid(std::vector<CpuidEntry> supported, const CpuidPolicy& policy);

/// `offered` completed for vCPU `index` of `count` single-threaded cores in one package.
std::vector<CpuidEntry>
cpuid_of_vcpu(std::span<const CpuidEntry> offered, std::uint32_t index, std::uint32_t count);

} // namespace wherry::vmm::kvm
