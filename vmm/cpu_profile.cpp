// SPDX-License-Identifier: Apache-2.0
#include "vmm/cpu_profile.hpp"

#include "vmm/guest_clock.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace wherry::vmm {
namespace {

constexpr std::uint32_t hypervisor_leaf = 0x40000000;
constexpr std::uint32_t frequency_leaf = 0x40000010;
constexpr unsigned first_extended_component = 2; // 0 and 1 are the legacy region
constexpr unsigned component_count = 32;

using Reasons = std::vector<std::string>;
using Cpuid = std::span<const CpuidEntry>;

std::string_view component_name(unsigned component) {
    constexpr std::array<std::string_view, 20> names{
        "x87",
        "SSE",
        "AVX",
        "MPX bounds",
        "MPX status",
        "AVX-512 masks",
        "AVX-512 high halves",
        "AVX-512 high registers",
        "PT",
        "PKRU",
        "PASID",
        "CET user",
        "CET supervisor",
        "HDC",
        "UINTR",
        "LBR",
        "HWP",
        "AMX config",
        "AMX tiles",
        "APX"};
    return component < names.size() ? names[component] : "unknown";
}

/// Without bits that say something of the moment or of the vCPU's place, not of the processor, and
/// without those in which AMD repeats leaf 1 EDX (APM vol. 3, E.4.2): each lack is named once.
std::uint32_t comparable_bits(const FeatureWord& word) {
    constexpr std::uint32_t repeated_by_amd = 0x0183f3ff;
    constexpr std::uint32_t os_xsave = 1U << 27U;
    constexpr std::uint32_t several_processors = 1U << 28U;
    constexpr std::uint32_t os_protection_keys = 1U << 4U;
    if (word.leaf == 1) {
        return ~(word.reg == CpuidRegister::ecx ? os_xsave : several_processors);
    }
    if (word.leaf == 7 && word.subleaf == 0 && word.reg == CpuidRegister::ecx) {
        return ~os_protection_keys;
    }
    if (word.leaf == 0x80000001 && word.reg == CpuidRegister::edx) {
        return ~repeated_by_amd;
    }
    return ~0U;
}

std::string text_of(std::uint32_t ebx, std::uint32_t edx, std::uint32_t ecx) {
    std::string text;
    for (const std::uint32_t word : {ebx, edx, ecx}) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
            if (const auto byte = static_cast<char>((word >> shift) & 0xffU); byte != '\0') {
                text += byte;
            }
        }
    }
    return text;
}

void compare_vendor(Cpuid wanted, Cpuid host, Reasons& reasons) {
    const auto guest = find_cpuid(wanted, 0);
    const auto here = find_cpuid(host, 0);
    if (!guest || !here) {
        return; // an engine without one is no vendor's
    }
    const auto guest_vendor = text_of(guest->ebx, guest->edx, guest->ecx);
    const auto host_vendor = text_of(here->ebx, here->edx, here->ecx);
    if (guest_vendor != host_vendor) {
        reasons.push_back(
            fmt::format("the guest sees a processor by {}, this is {}", guest_vendor, host_vendor));
    }
}

constexpr std::string_view hyperv_signature = "Microsoft Hv";
constexpr std::string_view soft_signature = "WherrySoft"; // soft/cpuid.cpp

/// Leaf 0x40000001 has features of KVM, but Hyper-V's signature on Hyper-V.
bool means_features(const FeatureWord& word, Cpuid guest) {
    return (word.leaf & 0xf0000000U) != 0x40000000U ||
           hypervisor_signature(guest) != hyperv_signature;
}

/// Partition privileges and features (Hypervisor Top Level Functional Specification, 2.4.4).
void compare_hyperv(Cpuid wanted, Cpuid host, Reasons& reasons) {
    if (hypervisor_signature(wanted) != hyperv_signature ||
        hypervisor_signature(host) != hyperv_signature) {
        return;
    }
    for (const auto reg : {CpuidRegister::eax, CpuidRegister::ebx, CpuidRegister::edx}) {
        const FeatureWord word{0x40000003, 0, reg};
        if (const auto lacking = word_of(wanted, word) & ~word_of(host, word); lacking != 0) {
            reasons.push_back(fmt::format(
                "the guest sees Hyper-V features that this host lacks: {}, and {} more",
                feature_name(word, static_cast<unsigned>(std::countr_zero(lacking))),
                std::popcount(lacking) - 1));
        }
    }
}

/// What talks to the hypervisor itself exists only under the same kind. A neutral guest has nothing
/// that does.
bool is_of_other_kind(Cpuid wanted, Cpuid host) {
    const auto guest_signature = hypervisor_signature(wanted);
    return find_cpuid(wanted, hypervisor_leaf) && guest_signature != neutral_signature &&
           guest_signature != hypervisor_signature(host);
}

std::string other_kind(Cpuid wanted, Cpuid host) {
    const auto guest_signature = hypervisor_signature(wanted);
    const auto host_signature = hypervisor_signature(host);
    auto text = fmt::format(
        "the guest sees the hypervisor {}, this is {}", guest_signature, host_signature);
    // No profile leads to or from an interpreter: see docs/design.md.
    if (guest_signature != soft_signature && host_signature != soft_signature) {
        text += ": a guest that is to move between kinds of hypervisor must be started with "
                "`--cpu portable`";
    }
    return text;
}

/// All features in one sentence: a host of another make lacks dozens.
void compare_features(Cpuid wanted, Cpuid host, Reasons& reasons) {
    std::string lacks;
    for (const auto& word : feature_words()) {
        if (!means_features(word, wanted)) {
            continue;
        }
        const auto lacking = word_of(wanted, word) & ~word_of(host, word) & comparable_bits(word);
        for (unsigned bit = 0; bit < 32; ++bit) {
            if (((lacking >> bit) & 1U) != 0) {
                lacks += (lacks.empty() ? "" : ", ") + feature_name(word, bit);
            }
        }
    }
    if (!lacks.empty()) {
        reasons.push_back(fmt::format("the guest sees {}, which this host lacks", lacks));
    }
}

void compare_addresses(Cpuid wanted, Cpuid host, Reasons& reasons) {
    const FeatureWord widths{0x80000008, 0, CpuidRegister::eax};
    const auto guest = word_of(wanted, widths);
    const auto here = word_of(host, widths);
    for (const auto& [shift, name] : {std::pair{0U, "physical"}, std::pair{8U, "linear"}}) {
        const auto guest_bits = (guest >> shift) & 0xffU;
        const auto host_bits = (here >> shift) & 0xffU;
        if (guest_bits > host_bits) {
            reasons.push_back(fmt::format(
                "the guest sees {} {} address bits, this host has {}",
                guest_bits,
                name,
                host_bits));
        }
    }
}

/// XSAVE components (SDM vol. 1, 13.2): each must exist, and lie where the guest's own save areas
/// have it; the place differs between vendors.
void compare_components(Cpuid wanted, Cpuid host, Reasons& reasons) {
    const FeatureWord mask{0xd, 0, CpuidRegister::eax};
    const auto guest = word_of(wanted, mask);
    const auto here = word_of(host, mask);
    for (unsigned component = first_extended_component; component < component_count; ++component) {
        if (((guest >> component) & 1U) == 0) {
            continue;
        }
        if (((here >> component) & 1U) == 0) {
            reasons.push_back(fmt::format(
                "the guest sees XSAVE component {} ({}), which this host lacks",
                component,
                component_name(component)));
            continue;
        }
        const auto guest_place = find_cpuid(wanted, 0xd, component).value_or(CpuidEntry{});
        const auto host_place = find_cpuid(host, 0xd, component).value_or(CpuidEntry{});
        if (guest_place.ebx != host_place.ebx || guest_place.eax != host_place.eax) {
            reasons.push_back(fmt::format(
                "XSAVE component {} ({}) is {} bytes at {} for the guest, {} bytes at {} here",
                component,
                component_name(component),
                guest_place.eax,
                guest_place.ebx,
                host_place.eax,
                host_place.ebx));
        }
    }
}

void compare_frequencies(Cpuid wanted, const BackendCapabilities& host, Reasons& reasons) {
    const auto guest = timer_frequencies(wanted);
    const auto here = timer_frequencies(host.cpuid);
    if (guest.tsc != 0 && host.tsc_frequency_khz != 0 && !host.can_scale_tsc &&
        !same_frequency(guest.tsc, host.tsc_frequency_khz)) {
        reasons.push_back(fmt::format(
            "the guest's TSC runs at {} kHz, this host's at {} kHz, and it cannot scale",
            guest.tsc,
            host.tsc_frequency_khz));
    }
    if (guest.apic_timer != 0 && here.apic_timer != 0 &&
        !same_frequency(guest.apic_timer, here.apic_timer)) {
        reasons.push_back(fmt::format(
            "the guest's APIC timer runs at {} kHz, this host's at {} kHz",
            guest.apic_timer,
            here.apic_timer));
    }
}

} // namespace

std::optional<CpuidEntry>
find_cpuid(std::span<const CpuidEntry> cpuid, std::uint32_t leaf, std::uint32_t subleaf) {
    const auto found = std::ranges::find_if(cpuid, [=](const CpuidEntry& entry) {
        return entry.leaf == leaf && (!entry.subleaf_is_significant || entry.subleaf == subleaf);
    });
    return found == cpuid.end() ? std::nullopt : std::optional{*found};
}

std::uint32_t word_of(std::span<const CpuidEntry> cpuid, const FeatureWord& word) {
    const auto entry = find_cpuid(cpuid, word.leaf, word.subleaf).value_or(CpuidEntry{});
    switch (word.reg) {
    case CpuidRegister::eax:
        return entry.eax;
    case CpuidRegister::ebx:
        return entry.ebx;
    case CpuidRegister::ecx:
        return entry.ecx;
    case CpuidRegister::edx:
        return entry.edx;
    }
    return 0;
}

std::string hypervisor_signature(std::span<const CpuidEntry> cpuid) {
    const auto leaf = find_cpuid(cpuid, hypervisor_leaf);
    return leaf ? text_of(leaf->ebx, leaf->ecx, leaf->edx) : std::string{"none"};
}

TimerFrequencies timer_frequencies(std::span<const CpuidEntry> cpuid) {
    const auto leaf = find_cpuid(cpuid, frequency_leaf).value_or(CpuidEntry{});
    return {.tsc = leaf.eax, .apic_timer = leaf.ebx};
}

std::vector<std::string>
missing_cpu_features(std::span<const CpuidEntry> wanted, const BackendCapabilities& host) {
    Reasons reasons;
    std::vector<CpuidEntry> portable;
    if (is_of_other_kind(wanted, host.cpuid)) {
        // The sentence names the remedy; what else is said is what would remain after it.
        reasons.push_back(other_kind(wanted, host.cpuid));
        portable = portable_cpuid(wanted);
        wanted = portable;
    }
    compare_vendor(wanted, host.cpuid, reasons);
    compare_hyperv(wanted, host.cpuid, reasons);
    compare_features(wanted, host.cpuid, reasons);
    compare_addresses(wanted, host.cpuid, reasons);
    compare_components(wanted, host.cpuid, reasons);
    compare_frequencies(wanted, host, reasons);
    return reasons;
}

std::vector<std::string>
missing_cpu_features(const MachineConfig& wanted, const BackendCapabilities& host) {
    auto reasons = missing_cpu_features(wanted.cpuid, host);
    if (wanted.vcpus > host.max_vcpus) {
        reasons.push_back(fmt::format(
            "the guest has {} vCPUs, {} on this host takes {}",
            wanted.vcpus,
            host.name,
            host.max_vcpus));
    }
    return reasons;
}

} // namespace wherry::vmm
