// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/machine.hpp"
#include "vmm/partition.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What a guest sees of its processor, as data. missing_cpu_features (machine.hpp) is made here.
/// CPUID (MachineConfig::cpuid) is the one truth: a profile only decides how it is made when a
/// guest starts, and can be read from it ever after.
namespace wherry::vmm {

enum class CpuidRegister : std::uint8_t { eax, ebx, ecx, edx };

/// A word of CPUID whose bits are features, each there or not.
struct FeatureWord {
    std::uint32_t leaf = 0, subleaf = 0;
    CpuidRegister reg = CpuidRegister::eax;
    friend bool operator==(const FeatureWord&, const FeatureWord&) = default;
};

/// All words that missing_cpu_features compares.
std::span<const FeatureWord> feature_words() noexcept;
/// The usual name of a bit ("avx512f"), as /proc/cpuinfo has it; bits without one are named by
/// their place ("CPUID 0x7.0 ecx bit 31").
std::string feature_name(const FeatureWord& word, unsigned bit);

std::optional<CpuidEntry>
find_cpuid(std::span<const CpuidEntry> cpuid, std::uint32_t leaf, std::uint32_t subleaf = 0);
/// Zero where the leaf is absent, as the processor answers.
std::uint32_t word_of(std::span<const CpuidEntry> cpuid, const FeatureWord& word);

/// The name in leaf 0x40000000 ("KVMKVMKVM", "Microsoft Hv"); "none" where there is none.
std::string hypervisor_signature(std::span<const CpuidEntry> cpuid);
/// What portable guests see there, of every backend: a hypervisor without an interface.
inline constexpr std::string_view neutral_signature = "WherryWherry";

/// In leaf 0x40000010, in kHz; zero where it is not told.
struct TimerFrequencies {
    std::uint32_t tsc = 0, apic_timer = 0;
};
TimerFrequencies timer_frequencies(std::span<const CpuidEntry> cpuid);

/// Leaf 0xD brought to agree with itself and with the XSAVE bit: of `components` (a mask as XCR0)
/// only those that are there, no sub-leaf for others, and the size of the area that these need.
void keep_xsave_components(std::vector<CpuidEntry>& cpuid, std::uint32_t components);

enum class CpuProfile : std::uint8_t {
    host,     ///< all that the backend offers, its hypervisor's interface included
    portable, ///< only what each hypervisor backend can offer, save and restore
};
/// "host", "portable".
formats::Result<CpuProfile> cpu_profile_from(std::string_view name);
std::string_view name_of(CpuProfile profile) noexcept;
/// The profile that a guest's CPUID was made with.
CpuProfile profile_of(std::span<const CpuidEntry> cpuid);

/// What of `offered` is portable, behind the neutral signature. Pure, and a projection: of what is
/// portable already nothing goes.
std::vector<CpuidEntry> portable_cpuid(std::span<const CpuidEntry> offered);
/// CPUID for a guest that starts on that hypervisor; empty for `host`: all that it offers.
formats::Result<std::vector<CpuidEntry>>
cpuid_for(CpuProfile profile, const HypervisorChoice& hypervisor);

} // namespace wherry::vmm
