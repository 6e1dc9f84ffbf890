// SPDX-License-Identifier: Apache-2.0
// The portable CPU profile. A bit is in the tables below where
//  * KVM and the Microsoft hypervisor can both offer it: the latter has a bit for it
//    (mshv/feature_bits.hpp), or it has always been there;
//  * what state it has, both backends save and restore (kvm/msrs.cpp and the kernel's list,
//    mshv/msrs.cpp, the XSAVE components of both).
// Left out for their state: MCE and MCA (their banks), the TSC-deadline timer (the Microsoft
// hypervisor does not tell when it is due), PKU and CET (no XSAVE component that both move), TSX
// (TSX_CTRL), virtual SSBD and OSVW (MSRs of KVM only), ARCH_CAPABILITIES (describes a host), AMD's
// extended topology and performance counters. Speculation control is in: MSR 0x48 is in both.
#include "vmm/cpu_profile.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

constexpr std::uint32_t bits(std::initializer_list<unsigned> numbers) {
    std::uint32_t mask = 0;
    for (const unsigned number : numbers) {
        mask |= std::uint32_t{1} << number;
    }
    return mask;
}

constexpr std::uint32_t all = ~0U;
constexpr std::uint32_t hypervisor_leaf = 0x40000000;
constexpr std::uint32_t frequency_leaf = 0x40000010;
constexpr std::uint32_t xsave_leaf = 0xd;
constexpr std::uint32_t last_basic_leaf = xsave_leaf;
constexpr std::uint32_t last_extended_leaf = 0x80000008;
/// x87, SSE, AVX and the three of AVX-512.
constexpr std::uint32_t portable_components = bits({0, 1, 2, 5, 6, 7});

/// FPU VME DE PSE TSC MSR PAE CX8 APIC MTRR PGE CMOV PAT PSE36 MMX FXSR: where AMD repeats them.
constexpr std::uint32_t repeated_basics =
    bits({0, 1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 15, 16, 17, 23, 24});

/// Bits of a leaf: those that stay. Leaves that are not here go.
struct Kept {
    std::uint32_t leaf;
    std::uint32_t subleaf; ///< `all`: of any
    std::uint32_t eax, ebx, ecx, edx;
};

// Names by bit: cpu_features.cpp.
constexpr auto kept_leaves = std::to_array<Kept>({
    {0, all, all, all, all, all},
    {1,
     all,
     all,
     0xff00, // the CLFLUSH size
     bits({0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 25, 26, 28, 29, 30, 31}),
     repeated_basics | bits({11, 19, 25, 26})}, // SEP CLFLUSH SSE SSE2
    {2, all, all, all, all, all},               // caches
    {4, all, all, all, all, all},
    {6, all, bits({2}), 0, 0, 0}, // the APIC timer never stops
    {7,
     0,
     all, // the last sub-leaf
     bits({0, 1, 3, 5, 7, 8, 9, 10, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31}),
     bits({1, 2, 6, 8, 9, 10, 11, 12, 14, 22, 25, 27, 28}),
     bits({4, 8, 10, 14, 23, 26, 27, 28, 31})},
    {7, 1, bits({0, 1, 2, 4, 5, 7, 10, 11, 12, 23}), 0, 0, bits({4, 5, 10, 14})},
    {xsave_leaf, 0, all, all, all, all}, // keep_xsave_components says the rest
    {xsave_leaf, 1, bits({0, 1, 2, 3}), all, 0, 0},
    {xsave_leaf, all, all, all, bits({1}), 0}, // sizes, offsets, alignment
    {0x80000000, all, all, all, all, all},
    {0x80000001,
     all,
     all,
     all,
     bits({0, 1, 4, 5, 6, 7, 8, 11, 16}),
     repeated_basics | bits({11, 20, 22, 26, 27, 29})},
    {0x80000002, all, all, all, all, all}, // name
    {0x80000003, all, all, all, all, all},
    {0x80000004, all, all, all, all, all},
    {0x80000005, all, all, all, all, all}, // caches
    {0x80000006, all, all, all, all, all},
    {0x80000007, all, 0, 0, 0, bits({8})}, // constant_tsc
    {0x80000008, all, all, bits({0, 12, 14, 15, 24}), 0, 0},
    {frequency_leaf, all, all, all, 0, 0},
});

/// What the Microsoft hypervisor ties to XSAVE, with or without AVX: it goes with it (the masks say
/// what goes). By names: fma avx f16c; avx2 avx512*; avx512_vbmi* gfni vaes vpclmulqdq and so on.
constexpr auto tied_to_xsave = std::to_array<Kept>({
    {1, all, 0, 0, bits({12, 28, 29}), 0},
    {7, 0, 0, bits({5, 16, 17, 21, 28, 30, 31}), bits({1, 6, 8, 9, 10, 11, 12, 14}), bits({8, 23})},
    {7, 1, bits({0, 1, 2, 4, 5, 23}), 0, 0, bits({4, 5, 10})},
});

bool is_blank(const CpuidEntry& entry) {
    return (entry.eax | entry.ebx | entry.ecx | entry.edx) == 0;
}

/// Blank where nothing of it is portable.
CpuidEntry restricted(CpuidEntry entry) {
    const auto kept = std::ranges::find_if(kept_leaves, [&entry](const Kept& one) {
        return one.leaf == entry.leaf && (one.subleaf == all || one.subleaf == entry.subleaf);
    });
    const Kept mask = kept != kept_leaves.end() ? *kept : Kept{};
    entry.eax &= mask.eax;
    entry.ebx &= mask.ebx;
    entry.ecx &= mask.ecx;
    entry.edx &= mask.edx;
    if (entry.leaf == 0) {
        entry.eax = std::min(entry.eax, last_basic_leaf);
    } else if (entry.leaf == 0x80000000) {
        entry.eax = std::min(entry.eax, last_extended_leaf);
    } else if (entry.leaf == 7 && entry.subleaf == 0) {
        entry.eax = std::min(entry.eax, 1U);
    } else if (entry.leaf == xsave_leaf && entry.subleaf >= 32) {
        entry = {};
    }
    return entry;
}

void remove_what_needs_xsave(std::vector<CpuidEntry>& cpuid) {
    for (auto& entry : cpuid) {
        for (const auto& tied : tied_to_xsave) {
            if (entry.leaf == tied.leaf && (tied.subleaf == all || entry.subleaf == tied.subleaf)) {
                entry.eax &= ~tied.eax;
                entry.ebx &= ~tied.ebx;
                entry.ecx &= ~tied.ecx;
                entry.edx &= ~tied.edx;
            }
        }
    }
}

bool has_xsave(std::span<const CpuidEntry> cpuid) {
    return (word_of(cpuid, {1, 0, CpuidRegister::ecx}) & bits({26})) != 0;
}

constexpr std::uint32_t letters(std::string_view text) {
    std::uint32_t word = 0;
    for (unsigned i = 0; i < 4; ++i) {
        word |= static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])) << (8 * i);
    }
    return word;
}

constexpr CpuidEntry neutral_presence{
    .leaf = hypervisor_leaf,
    .eax = frequency_leaf,
    .ebx = letters(neutral_signature),
    .ecx = letters(neutral_signature.substr(4)),
    .edx = letters(neutral_signature.substr(8))};
static_assert(neutral_signature.size() == 12);

struct NamedProfile {
    std::string_view name;
    CpuProfile profile;
};
constexpr auto profile_names = std::to_array<NamedProfile>({
    {"host", CpuProfile::host},
    {"portable", CpuProfile::portable},
});

} // namespace

void keep_xsave_components(std::vector<CpuidEntry>& cpuid, std::uint32_t components) {
    constexpr std::uint32_t legacy_region_and_header = 576;
    const bool is_usable = has_xsave(cpuid);
    components &= word_of(cpuid, {xsave_leaf, 0, CpuidRegister::eax});
    const auto is_offered = [components](const CpuidEntry& entry) {
        return (components & bits({entry.subleaf})) != 0;
    };
    // Supervisor components are IA32_XSS's, not XCR0's.
    const auto is_component = [](const CpuidEntry& entry) {
        return entry.leaf == xsave_leaf && entry.subleaf >= 2 && entry.subleaf < 32 &&
               (entry.ecx & 1U) == 0;
    };
    std::uint32_t area = legacy_region_and_header;
    for (const auto& entry : cpuid) {
        if (is_component(entry) && is_offered(entry)) {
            area = std::max(area, entry.ebx + entry.eax);
        }
    }
    for (auto& entry : cpuid) {
        if (entry.leaf != xsave_leaf) {
            continue;
        }
        if (!is_usable || (is_component(entry) && !is_offered(entry))) {
            entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
        } else if (entry.subleaf == 0) {
            entry.eax = components;
            entry.ebx = entry.ecx = area;
            entry.edx = 0;
        }
    }
}

Result<CpuProfile> cpu_profile_from(std::string_view name) {
    const auto found = std::ranges::find(profile_names, name, &NamedProfile::name);
    if (found != profile_names.end()) {
        return found->profile;
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("there is no CPU profile '{}'; choose host or portable", name));
}

std::string_view name_of(CpuProfile profile) noexcept {
    return std::ranges::find(profile_names, profile, &NamedProfile::profile)->name;
}

CpuProfile profile_of(std::span<const CpuidEntry> cpuid) {
    return hypervisor_signature(cpuid) == neutral_signature ? CpuProfile::portable
                                                            : CpuProfile::host;
}

std::vector<CpuidEntry> portable_cpuid(std::span<const CpuidEntry> offered) {
    std::vector<CpuidEntry> portable;
    std::ranges::transform(offered, std::back_inserter(portable), restricted);
    keep_xsave_components(portable, portable_components);
    if (!has_xsave(portable)) {
        remove_what_needs_xsave(portable);
    }
    std::erase_if(portable, is_blank);
    portable.push_back(neutral_presence);
    std::ranges::sort(
        portable, {}, [](const auto& entry) { return std::pair{entry.leaf, entry.subleaf}; });
    return portable;
}

Result<std::vector<CpuidEntry>> cpuid_for(CpuProfile profile, const HypervisorChoice& hypervisor) {
    if (profile == CpuProfile::host) {
        return std::vector<CpuidEntry>{};
    }
    const auto offered = probe(hypervisor);
    if (!offered) {
        return fail(offered.error());
    }
    return portable_cpuid(offered->cpuid);
}

} // namespace wherry::vmm
