// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/machine.hpp"
#include "vmm/partition.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>

/// What a guest sees of its processor, as data. missing_cpu_features (machine.hpp) is made here.
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

} // namespace wherry::vmm
