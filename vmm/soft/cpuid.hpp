// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/soft/engine.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::soft {

/// What a soft guest is offered: what CPUID returns in an engine (it is executed there), with the
/// basic features put right, and the hypervisor leaves 0x40000000
/// ("WherrySoft") and 0x40000010 (EAX: TSC in kHz).
formats::Result<std::vector<CpuidEntry>> offered_cpuid(std::uint64_t tsc_frequency_khz);

/// Fails, naming the leaf, where `wanted` asks for a feature that is not in `offered`. Names,
/// family and model are free: they are only shown.
formats::Status
check_cpuid(std::span<const CpuidEntry> wanted, std::span<const CpuidEntry> offered);

/// The entry for a leaf and subleaf; zeros where there is none.
CpuidEntry
look_up(std::span<const CpuidEntry> entries, std::uint32_t leaf, std::uint32_t subleaf) noexcept;

} // namespace wherry::vmm::soft
