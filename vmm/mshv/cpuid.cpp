// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/cpuid.hpp"

#include "vmm/cpu_profile.hpp"
#include "vmm/kvm/cpuid.hpp"
#include "vmm/mshv/abi/hypercalls.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace hypercalls = abi::hypercalls;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

/// Beginnings of the ranges, and what is the most that a sane answer has in each.
constexpr std::array<std::uint32_t, 3> ranges{0, 0x40000000, 0x80000000};
constexpr std::uint32_t leaves_limit = 0x40;
constexpr std::uint32_t xsave_leaf = 0xd;
constexpr std::uint32_t hypervisor_leaf = 0x40000000;
/// TSC and APIC timer frequency in kHz, as VMware had it first and KVM has it too.
constexpr std::uint32_t frequency_leaf = 0x40000010;

bool is_of_hypervisor(std::uint32_t leaf) {
    return (leaf & 0xf0000000U) == 0x40000000U;
}

/// Sub-leaves to ask for; topology (0xB, 0x1F and AMD's) is made here, not asked for.
std::uint32_t subleaf_count(std::uint32_t leaf) {
    switch (leaf) {
    case 4:
    case 7:
    case 0x8000001d:
        return 8;
    case xsave_leaf:
        return 63;
    default:
        return 1;
    }
}

bool is_blank(const CpuidEntry& entry) {
    return (entry.eax | entry.ebx | entry.ecx | entry.edx) == 0;
}

Result<CpuidEntry>
ask(const Descriptor& vp, std::uint32_t index, std::uint32_t leaf, std::uint32_t subleaf) {
    const hypercalls::GetVpCpuidValues input{.vp_index = index, .leaf = leaf, .subleaf = subleaf};
    std::array<std::uint32_t, 4> output{};
    const auto got = vp.hypercall(
        {.name = fmt::format("CPUID {:#x}.{:#x}", leaf, subleaf),
         .code = hypercalls::get_vp_cpuid_values,
         .input = &input,
         .input_size = sizeof(input),
         .output = output.data(),
         .output_size = sizeof(output),
         .reps = 1});
    if (!got) {
        return fail(got.error());
    }
    return CpuidEntry{
        .leaf = leaf,
        .subleaf = subleaf,
        .subleaf_is_significant = subleaf_count(leaf) > 1,
        .eax = output[0],
        .ebx = output[1],
        .ecx = output[2],
        .edx = output[3]};
}

struct Masks {
    std::uint32_t ebx = ~0U;
    std::uint32_t ecx = ~0U;
};

/// Without what follows XCR0, XSS and CR4 as they change.
Masks masks_of(const CpuidEntry& entry) {
    constexpr std::uint32_t os_xsave = 1U << 27U;
    constexpr std::uint32_t os_protection_keys = 1U << 4U;
    if (entry.leaf == 1) {
        return {.ecx = ~os_xsave};
    }
    if (entry.leaf == 7 && entry.subleaf == 0) {
        return {.ecx = ~os_protection_keys};
    }
    if (entry.leaf == xsave_leaf && entry.subleaf < 2) {
        return {.ebx = 0};
    }
    return {};
}

Status register_one(const Descriptor& vp, std::uint32_t index, const CpuidEntry& entry) {
    const auto masks = masks_of(entry);
    const hypercalls::CpuidResult input{
        .vp_index = index,
        .leaf = entry.leaf,
        .subleaf = entry.subleaf,
        .is_subleaf_specific = entry.subleaf_is_significant ? std::uint8_t{1} : std::uint8_t{0},
        .always_override = 1,
        .eax = {.value = entry.eax},
        .ebx = {.value = entry.ebx, .mask = masks.ebx},
        .ecx = {.value = entry.ecx, .mask = masks.ecx},
        .edx = {.value = entry.edx}};
    return vp.hypercall(
        {.name = fmt::format("registering CPUID {:#x}.{:#x}", entry.leaf, entry.subleaf),
         .code = hypercalls::register_intercept_result,
         .input = &input,
         .input_size = hypercalls::CpuidResult::input_size});
}

} // namespace

Result<std::vector<CpuidEntry>> read_cpuid(const Descriptor& vp, std::uint32_t index) {
    std::vector<CpuidEntry> entries;
    for (const std::uint32_t first : ranges) {
        std::uint32_t last = first;
        for (std::uint32_t leaf = first; leaf <= last; ++leaf) {
            for (std::uint32_t subleaf = 0; subleaf < subleaf_count(leaf); ++subleaf) {
                const auto entry = ask(vp, index, leaf, subleaf);
                if (!entry) {
                    return fail(entry.error());
                }
                if (leaf == first) {
                    last = std::clamp(entry->eax, first, first + leaves_limit);
                }
                if (!is_blank(*entry)) {
                    entries.push_back(*entry);
                }
            }
        }
    }
    return entries;
}

std::vector<CpuidEntry>
offered_cpuid(std::span<const CpuidEntry> answered, const GuestFrequencies& frequencies) {
    constexpr std::uint32_t cache_monitoring = 0xf;
    constexpr std::uint32_t cache_allocation = 0x10;
    std::vector<CpuidEntry> processor{answered.begin(), answered.end()};
    std::erase_if(processor, [](const CpuidEntry& entry) {
        return is_of_hypervisor(entry.leaf) || entry.leaf == cache_monitoring ||
               entry.leaf == cache_allocation;
    });
    // No TSC-deadline timer: the hypervisor does not tell when it is due.
    auto offered = kvm::offered_cpuid(
        std::move(processor), {.has_tsc_deadline_timer = false, .tsc_frequency_khz = 0});
    std::erase_if(offered, [](const auto& entry) { return is_of_hypervisor(entry.leaf); });
    for (CpuidEntry entry : answered) {
        if (is_of_hypervisor(entry.leaf) && entry.leaf != frequency_leaf) {
            entry.eax =
                entry.leaf == hypervisor_leaf ? std::max(entry.eax, frequency_leaf) : entry.eax;
            offered.push_back(entry);
        }
    }
    if (frequencies.tsc != 0) {
        offered.push_back(
            {.leaf = frequency_leaf,
             .eax = static_cast<std::uint32_t>(frequencies.tsc),
             .ebx = static_cast<std::uint32_t>(frequencies.apic_timer)});
    }
    std::ranges::sort(
        offered, {}, [](const auto& entry) { return std::pair{entry.leaf, entry.subleaf}; });
    return offered;
}

Status register_cpuid(
    const Descriptor& vp,
    std::uint32_t index,
    std::uint32_t vcpus,
    std::span<const CpuidEntry> cpuid,
    std::span<const CpuidEntry> answered) {
    const bool sees_hyperv = hypervisor_signature(cpuid) == "Microsoft Hv";
    auto entries = kvm::cpuid_of_vcpu(cpuid, index, vcpus);
    for (CpuidEntry hidden : answered) {
        if (!find_cpuid(entries, hidden.leaf, hidden.subleaf)) {
            hidden.eax = hidden.ebx = hidden.ecx = hidden.edx = 0;
            entries.push_back(hidden);
        }
    }
    for (const auto& entry : entries) {
        if (is_of_hypervisor(entry.leaf) && std::ranges::find(answered, entry) != answered.end()) {
            continue;
        }
        auto registered = register_one(vp, index, entry);
        // Whether the hypervisor lets its own range be added to is not documented. Where not, a
        // guest of Hyper-V that looks for the frequencies there finds nothing, and looks elsewhere;
        // to another guest they are part of the processor that it has been promised.
        if (!registered && !(sees_hyperv && is_of_hypervisor(entry.leaf))) {
            return registered;
        }
    }
    return {};
}

} // namespace wherry::vmm::mshv
