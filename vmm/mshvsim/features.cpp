// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/features.hpp"

#include "vmm/mshv/abi/synthetic_features.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {

namespace synthetic = mshv::abi::synthetic_features;

namespace {

using Output = std::uint32_t CpuidEntry::*;
constexpr Output a = &CpuidEntry::eax;
constexpr Output b = &CpuidEntry::ebx;
constexpr Output c = &CpuidEntry::ecx;
constexpr Output d = &CpuidEntry::edx;
constexpr std::uint32_t extended = 0x80000001;

/// Where CPUID has the feature with this bit of a bank.
struct Place {
    unsigned bit;
    std::uint32_t leaf, subleaf;
    Output output;
    unsigned cpuid_bit;
};

constexpr Place bank0[] = {
    {0, 1, 0, c, 0},          {1, extended, 0, c, 0},   {2, 1, 0, c, 9},
    {3, 1, 0, c, 19},         {4, 1, 0, c, 20},         {5, extended, 0, c, 6},
    {6, extended, 0, c, 11},  {7, 1, 0, c, 23},         {8, 1, 0, c, 13},
    {9, extended, 0, c, 4},   {10, extended, 0, c, 5},  {11, extended, 0, c, 7},
    {12, extended, 0, d, 22}, {13, extended, 0, d, 31}, {14, extended, 0, d, 30},
    {15, extended, 0, d, 26}, {16, 1, 0, c, 25},        {17, 1, 0, c, 1},
    {18, 1, 0, c, 17},        {19, extended, 0, c, 16}, {20, 1, 0, c, 29},
    {21, 1, 0, c, 30},        {22, 7, 0, b, 0},         {23, 7, 0, b, 7},
    {24, 7, 0, b, 9},         {25, 7, 0, b, 3},         {26, 7, 0, b, 8},
    {29, 1, 0, c, 22},        {31, 7, 0, b, 13},        {32, 7, 0, b, 18},
    {33, 7, 0, b, 19},        {34, extended, 0, c, 8},  {35, 7, 0, b, 20},
    {36, 7, 0, b, 4},         {37, 7, 0, b, 11},        {38, extended, 0, d, 27},
    {39, 7, 0, b, 23},        {40, 7, 0, b, 24},        {41, 7, 0, b, 29},
    {43, 7, 0, b, 10},        {44, 7, 0, d, 26},        {45, 7, 0, d, 27},
    {46, 7, 0, d, 26},        {48, 7, 0, d, 10},        {49, 7, 0, d, 4},
    {50, 7, 0, d, 28},        {57, 7, 0, c, 22},        {58, 7, 0, c, 2},
};
constexpr Place bank1[] = {
    {1, 0x80000007, 0, d, 8},
    {2, 0x80000008, 0, b, 0},
    {3, 0x80000008, 0, b, 4},
    {4, 7, 0, c, 16},
    {13, 7, 0, c, 27},
    {14, 7, 0, c, 28},
    {15, 7, 0, c, 25},
    {16, 7, 0, d, 14},
    {17, 1, 0, c, 24},
    {18, 7, 0, b, 1},
    {19, 7, 1, a, 10},
    {20, 7, 1, a, 11},
    {21, 7, 1, a, 12},
    {22, 7, 0, d, 16},
};
constexpr Place xsave_bank[] = {
    {0, 1, 0, c, 26},   {1, 0xd, 1, a, 0}, {2, 1, 0, c, 28},   {3, 7, 0, b, 5},
    {4, 1, 0, c, 12},   {6, 7, 0, b, 16},  {7, 7, 0, b, 17},   {8, 7, 0, b, 28},
    {9, 7, 0, b, 30},   {10, 7, 0, b, 31}, {11, 0xd, 1, a, 1}, {12, 0xd, 1, a, 3},
    {13, 0xd, 1, a, 2}, {14, 7, 0, c, 12}, {15, 7, 0, b, 21},  {16, 7, 0, c, 1},
    {17, 7, 0, c, 6},   {18, 7, 0, c, 11}, {19, 7, 0, c, 8},   {20, 7, 0, c, 9},
    {21, 7, 0, c, 14},  {22, 7, 0, c, 10}, {23, 7, 1, a, 5},   {24, 7, 0, d, 8},
    {25, 7, 0, d, 23},  {30, 7, 1, a, 4},  {31, 7, 1, a, 23},
};

CpuidEntry* entry_of(std::vector<CpuidEntry>& cpuid, std::uint32_t leaf, std::uint32_t subleaf) {
    const auto found = std::ranges::find_if(cpuid, [=](const auto& entry) {
        return entry.leaf == leaf && (!entry.subleaf_is_significant || entry.subleaf == subleaf);
    });
    return found != cpuid.end() ? &*found : nullptr;
}

CpuidEntry answer(const std::vector<CpuidEntry>& cpuid, std::uint32_t leaf, std::uint32_t subleaf) {
    for (const auto& entry : cpuid) {
        if (entry.leaf == leaf && (!entry.subleaf_is_significant || entry.subleaf == subleaf)) {
            return entry;
        }
    }
    return {};
}

std::uint64_t bank_of(const std::vector<CpuidEntry>& cpuid, std::span<const Place> places) {
    std::uint64_t bank = 0;
    for (const auto& place : places) {
        const auto entry = answer(cpuid, place.leaf, place.subleaf);
        bank |= std::uint64_t{(entry.*place.output >> place.cpuid_bit) & 1U} << place.bit;
    }
    return bank;
}

void hide(std::vector<CpuidEntry>& cpuid, std::span<const Place> places, std::uint64_t offered) {
    for (const auto& place : places) {
        auto* const entry = entry_of(cpuid, place.leaf, place.subleaf);
        if (entry != nullptr && (offered >> place.bit & 1U) == 0) {
            entry->*place.output &= ~(1U << place.cpuid_bit);
        }
    }
}

constexpr std::uint32_t bit(unsigned number) {
    return 1U << number;
}

/// MONITOR, VMX and performance counters; AMX, CET, LBR, SGX, processor trace; SVM and the like:
/// what this engine has no state for.
void hide_never_offered(std::vector<CpuidEntry>& cpuid) {
    if (auto* const one = entry_of(cpuid, 1, 0); one != nullptr) {
        one->ecx &= ~(bit(3) | bit(5) | bit(15) | bit(27));
        one->ebx &= 0xff00;
    }
    if (auto* const seven = entry_of(cpuid, 7, 0); seven != nullptr) {
        seven->ebx &= ~(bit(2) | bit(14) | bit(25));
        seven->ecx &= ~(bit(5) | bit(7));
        seven->edx &= ~(bit(19) | bit(20) | bit(22) | bit(24) | bit(25));
    }
    if (auto* const amd = entry_of(cpuid, extended, 0); amd != nullptr) {
        amd->ecx &= ~(bit(2) | bit(10) | bit(12) | bit(15) | bit(22) | bit(23) | bit(24) | bit(27));
    }
    std::erase_if(cpuid, [](const auto& entry) {
        return (entry.leaf >= 0x40000000 && entry.leaf < 0x50000000) || entry.leaf == 0xa ||
               entry.leaf == 0xb || entry.leaf == 0x1f || entry.leaf == 0x12 ||
               entry.leaf == 0x14 || entry.leaf == 0x1c || entry.leaf == 0x1d ||
               entry.leaf == 0x1e || entry.leaf == 0x8000000a || entry.leaf == 0x8000001b ||
               entry.leaf == 0x8000001e || entry.leaf == 0x8000001f || entry.leaf == 0x80000022 ||
               entry.leaf == 0x80000026 ||
               (entry.leaf != 0 && entry.subleaf == 0 && !entry.subleaf_is_significant &&
                (entry.eax | entry.ebx | entry.ecx | entry.edx) == 0);
    });
}

/// Hyper-V's leaves (Top Level Functional Specification, chapter 2).
void add_synthetic_leaves(std::vector<CpuidEntry>& cpuid, std::uint64_t features) {
    if ((features & synthetic::hypervisor_present) == 0) {
        return;
    }
    if (auto* const one = entry_of(cpuid, 1, 0); one != nullptr) {
        one->ecx |= bit(31);
    }
    const auto has = [features](std::uint64_t feature, unsigned to) {
        return (features & feature) != 0 ? bit(to) : 0U;
    };
    cpuid.push_back(
        {.leaf = 0x40000000,
         .eax = 0x40000006,
         .ebx = 0x7263694d,   // "Micr"
         .ecx = 0x666f736f,   // "osof"
         .edx = 0x76482074}); // "t Hv"
    cpuid.push_back(
        {.leaf = 0x40000001, .eax = (features & synthetic::hv1) != 0 ? 0x31237648U : 0U}); // "Hv#1"
    cpuid.push_back({.leaf = 0x40000002});
    cpuid.push_back(
        {.leaf = 0x40000003,
         .eax = has(synthetic::vp_runtime, 0) | has(synthetic::reference_counter, 1) |
                has(synthetic::synic, 2) | has(synthetic::synthetic_timers, 3) |
                has(synthetic::hypercall, 5) | has(synthetic::vp_index, 6) |
                has(synthetic::reference_tsc, 9) | has(synthetic::frequency, 11),
         .edx = has(synthetic::frequency, 8) | has(synthetic::direct_synthetic_timers, 19)});
    // A SINT's interrupt wants an EOI, whatever its auto-EOI bit.
    cpuid.push_back({.leaf = 0x40000004, .eax = has(synthetic::synic, 9)});
    cpuid.push_back({.leaf = 0x40000005, .eax = 256});
    cpuid.push_back({.leaf = 0x40000006});
}

} // namespace

FeatureBanks features_of(const EngineCapabilities& engine) {
    FeatureBanks banks;
    banks.processor = {bank_of(engine.cpuid, bank0), bank_of(engine.cpuid, bank1)};
    banks.xsave = bank_of(engine.cpuid, xsave_bank);
    if ((banks.xsave & 1U) == 0) {
        banks.xsave = 0; // nothing of it works without XSAVE
    }
    return banks;
}

std::uint64_t assignable_synthetic_features(const EngineCapabilities& engine) {
    if (!engine.has_msr_exits) {
        return 0;
    }
    const std::uint64_t everywhere = synthetic::hypervisor_present | synthetic::hv1 |
                                     synthetic::reference_counter | synthetic::vp_index |
                                     synthetic::frequency;
    const std::uint64_t with_lapic =
        synthetic::vp_runtime | synthetic::hypercall | synthetic::reference_tsc | synthetic::synic |
        synthetic::synthetic_timers | synthetic::direct_synthetic_timers;
    return engine.has_lapic ? everywhere | with_lapic : everywhere;
}

std::vector<CpuidEntry>
base_cpuid(const EngineCapabilities& engine, const FeatureBanks& offered, std::uint64_t features) {
    auto cpuid = engine.cpuid;
    hide(cpuid, bank0, offered.processor[0]);
    hide(cpuid, bank1, offered.processor[1]);
    hide(cpuid, xsave_bank, offered.xsave);
    hide_never_offered(cpuid);
    const std::uint64_t states = xsave_states(engine, offered);
    if ((offered.xsave & 1U) == 0) {
        std::erase_if(cpuid, [](const auto& entry) { return entry.leaf == 0xd; });
    } else if (auto* const area = entry_of(cpuid, 0xd, 0); area != nullptr) {
        area->eax = static_cast<std::uint32_t>(states);
        area->edx = 0;
        std::uint32_t size = 576;
        for (unsigned number = 2; number < 32; ++number) {
            if ((states >> number & 1U) != 0) {
                const auto component = component_of(engine.cpuid, number);
                size = std::max(size, component.standard_offset + component.size);
            }
        }
        area->ebx = area->ecx = size;
    }
    add_synthetic_leaves(cpuid, features);
    return cpuid;
}

std::uint64_t xsave_states(const EngineCapabilities& engine, const FeatureBanks& offered) {
    constexpr std::uint64_t x87_and_sse = 3;
    constexpr std::uint64_t avx = 4;
    constexpr std::uint64_t avx512 = 0xe0;
    constexpr std::uint64_t protection_keys = 0x200;
    std::uint64_t states = x87_and_sse;
    if ((offered.xsave & 1U) == 0) {
        return states;
    }
    states |= (offered.xsave & (1U << 2U)) != 0 ? avx : 0;
    states |= (offered.xsave & (1U << 6U)) != 0 ? avx512 : 0;
    return states | (engine.xcr0 & protection_keys);
}

XsaveComponent component_of(const std::vector<CpuidEntry>& cpuid, unsigned number) {
    const auto entry = answer(cpuid, 0xd, number);
    return {.size = entry.eax, .standard_offset = entry.ebx, .is_aligned = (entry.ecx & 2U) != 0};
}

std::uint32_t compacted_size(const std::vector<CpuidEntry>& cpuid, std::uint64_t states) {
    std::uint32_t size = 576;
    for (unsigned number = 2; number < 63; ++number) {
        if ((states >> number & 1U) == 0) {
            continue;
        }
        const auto component = component_of(cpuid, number);
        size = component.is_aligned ? (size + 63) / 64 * 64 : size;
        size += component.size;
    }
    return size;
}

std::uint32_t physical_address_bits(const EngineCapabilities& engine) {
    const std::uint32_t bits = answer(engine.cpuid, 0x80000008, 0).eax & 0xffU;
    return std::clamp(bits, 36U, 52U);
}

} // namespace wherry::vmm::mshvsim
