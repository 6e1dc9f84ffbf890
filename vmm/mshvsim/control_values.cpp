// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/control_values.hpp"

#include "vmm/mshv/abi/register_names.hpp"

namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;

namespace {

constexpr std::uint64_t bit(unsigned number) {
    return std::uint64_t{1} << number;
}
constexpr std::uint64_t cr0_pe = bit(0), cr0_nw = bit(29), cr0_cd = bit(30), cr0_pg = bit(31);
constexpr std::uint64_t cr4_pae = bit(5), cr4_pce = bit(8);
constexpr std::uint64_t efer_lme = bit(8), efer_lma = bit(10);

/// Control bits that are there where a bit of CPUID is.
struct Feature {
    std::uint64_t control;
    std::uint32_t leaf, subleaf;
    std::uint32_t CpuidEntry::* word;
    unsigned cpuid_bit;
};
constexpr Feature cr4_features[] = {
    {bit(0) | bit(1), 1, 0, &CpuidEntry::edx, 1}, // VME, PVI
    {bit(2), 1, 0, &CpuidEntry::edx, 4},          // TSD
    {bit(3), 1, 0, &CpuidEntry::edx, 2},          // DE
    {bit(4), 1, 0, &CpuidEntry::edx, 3},          // PSE
    {bit(5), 1, 0, &CpuidEntry::edx, 6},          // PAE
    {bit(6), 1, 0, &CpuidEntry::edx, 7},          // MCE
    {bit(7), 1, 0, &CpuidEntry::edx, 13},         // PGE
    {bit(9), 1, 0, &CpuidEntry::edx, 24},         // OSFXSR
    {bit(10), 1, 0, &CpuidEntry::edx, 25},        // OSXMMEXCPT
    {bit(11), 7, 0, &CpuidEntry::ecx, 2},         // UMIP
    {bit(12), 7, 0, &CpuidEntry::ecx, 16},        // LA57
    {bit(13), 1, 0, &CpuidEntry::ecx, 5},         // VMXE
    {bit(14), 1, 0, &CpuidEntry::ecx, 6},         // SMXE
    {bit(16), 7, 0, &CpuidEntry::ebx, 0},         // FSGSBASE
    {bit(17), 1, 0, &CpuidEntry::ecx, 17},        // PCIDE
    {bit(18), 1, 0, &CpuidEntry::ecx, 26},        // OSXSAVE
    {bit(19), 7, 0, &CpuidEntry::ecx, 23},        // KL
    {bit(20), 7, 0, &CpuidEntry::ebx, 7},         // SMEP
    {bit(21), 7, 0, &CpuidEntry::ebx, 20},        // SMAP
    {bit(22), 7, 0, &CpuidEntry::ecx, 3},         // PKE
    {bit(23), 7, 0, &CpuidEntry::ecx, 7},         // CET, shadow stacks
    {bit(23), 7, 0, &CpuidEntry::edx, 20},        // CET, branches
    {bit(24), 7, 0, &CpuidEntry::ecx, 31},        // PKS
    {bit(25), 7, 0, &CpuidEntry::edx, 5},         // UINTR
    {bit(27), 7, 1, &CpuidEntry::eax, 6},         // LASS
    {bit(28), 7, 1, &CpuidEntry::eax, 26},        // LAM_SUP
    {bit(32), 7, 1, &CpuidEntry::eax, 17},        // FRED
};
constexpr Feature efer_features[] = {
    {bit(0), 0x80000001, 0, &CpuidEntry::edx, 11},           // SCE
    {bit(8) | bit(10), 0x80000001, 0, &CpuidEntry::edx, 29}, // LME, LMA
    {bit(11), 0x80000001, 0, &CpuidEntry::edx, 20},          // NXE
    {bit(12) | bit(13), 0x80000001, 0, &CpuidEntry::ecx, 2}, // SVME, LMSLE
    {bit(14), 0x80000001, 0, &CpuidEntry::edx, 25},          // FFXSR
    {bit(15), 0x80000001, 0, &CpuidEntry::ecx, 17},          // TCE
    {bit(21), 0x80000021, 0, &CpuidEntry::eax, 8},           // AIBRSE
};

std::uint64_t known_bits(std::span<const Feature> features, std::span<const CpuidEntry> cpuid) {
    std::uint64_t known = 0;
    for (const auto& feature : features) {
        for (const auto& entry : cpuid) {
            const bool is_word = entry.leaf == feature.leaf && (!entry.subleaf_is_significant ||
                                                                entry.subleaf == feature.subleaf);
            if (is_word && (entry.*feature.word >> feature.cpuid_bit & 1U) != 0) {
                known |= feature.control;
            }
        }
    }
    return known;
}

} // namespace

bool is_possible(std::uint32_t name, std::uint64_t value, std::span<const CpuidEntry> cpuid) {
    const auto has = [value](std::uint64_t bits) {
        return (value & bits) != 0;
    };
    switch (name) {
    case name_of::cr0:
    case name_of::intermediate_cr0:
        return value >> 32U == 0 && (!has(cr0_pg) || has(cr0_pe)) && (!has(cr0_nw) || has(cr0_cd));
    case name_of::cr4:
    case name_of::intermediate_cr4:
        return !has(~(known_bits(cr4_features, cpuid) | cr4_pce));
    case name_of::cr8:
    case name_of::intermediate_cr8:
        return value <= 15;
    case name_of::efer:
        return !has(~known_bits(efer_features, cpuid)) && (!has(efer_lma) || has(efer_lme));
    default:
        return true;
    }
}

bool is_consistent(const SystemRegisters& system) {
    const bool is_long = (system.cr0 & cr0_pg) != 0 && (system.efer & efer_lme) != 0;
    return ((system.efer & efer_lma) != 0) == is_long && (!is_long || (system.cr4 & cr4_pae) != 0);
}

} // namespace wherry::vmm::mshvsim
