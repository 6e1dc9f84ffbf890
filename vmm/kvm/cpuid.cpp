// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpuid.hpp"

#include "vmm/cpu_profile.hpp"
#include "vmm/kvm/abi.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace wherry::vmm::kvm {

using formats::fail;
using formats::Result;

namespace {

constexpr std::uint32_t bit(unsigned number) {
    return std::uint32_t{1} << number;
}

constexpr std::uint32_t kvm_leaves = 0x40000000;
constexpr std::uint32_t kvm_features_leaf = 0x40000001;
constexpr std::uint32_t frequency_leaf = 0x40000010;
constexpr std::uint32_t lapic_bus_khz = 1'000'000; // KVM's LAPIC timer counts nanoseconds

// Leaf 1, ECX.
constexpr std::uint32_t monitor = bit(3);
constexpr std::uint32_t vmx = bit(5);
constexpr std::uint32_t perf_capabilities = bit(15);
constexpr std::uint32_t tsc_deadline = bit(24);
constexpr std::uint32_t os_xsave = bit(27);
constexpr std::uint32_t hypervisor = bit(31);
// Leaf 1, EDX.
constexpr std::uint32_t several_processors = bit(28);
// Leaf 7, EBX and ECX.
constexpr std::uint32_t processor_trace = bit(25);
constexpr std::uint32_t software_guard = bit(2);
constexpr std::uint32_t wait_package = bit(5);
// Leaf 7, EDX: AMX needs a permission of the process, architectural LBR keeps host state.
constexpr std::uint32_t matrix_and_lbr = bit(19) | bit(22) | bit(24) | bit(25);
/// x87, SSE, AVX, AVX-512 (three components), PKRU.
constexpr std::uint32_t migratable_components = 0x2e7;
// Leaf 0x80000001, ECX: SVM, IBS, SKINIT, WDT, LWP, performance counters, MWAITX.
constexpr std::uint32_t amd_unwanted = bit(2) | bit(10) | bit(12) | bit(13) | bit(15) | bit(23) |
                                       bit(24) | bit(27) | bit(28) | bit(29);
// Leaf 0x40000001, EAX: asynchronous page faults (host-side state), extended MSI destinations
// (not in our IOAPIC), calls about page encryption and migration control.
constexpr std::uint32_t kvm_unwanted = bit(4) | bit(10) | bit(14) | bit(15) | bit(16) | bit(17);

bool is_blank(const CpuidEntry& entry) {
    return (entry.eax | entry.ebx | entry.ecx | entry.edx) == 0;
}

void clear(CpuidEntry& entry) {
    entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
}

void restrict_leaf(CpuidEntry& entry, const CpuidPolicy& policy) {
    switch (entry.leaf) {
    case 1:
        entry.ebx &= 0xff00; // keep the CLFLUSH size; ids are per vCPU
        entry.ecx &= ~(monitor | vmx | perf_capabilities | tsc_deadline | os_xsave);
        entry.ecx |= hypervisor | (policy.has_tsc_deadline_timer ? tsc_deadline : 0U);
        entry.edx &= ~several_processors;
        break;
    case 4:
        entry.eax &= 0x3fff;
        break;
    case 6: // only: the APIC timer never stops
        entry.eax &= bit(2);
        entry.ebx = entry.ecx = entry.edx = 0;
        break;
    case 7:
        if (entry.subleaf == 0) {
            entry.ebx &= ~(processor_trace | software_guard);
            entry.ecx &= ~wait_package;
            entry.edx &= ~matrix_and_lbr;
        }
        break;
    case 0x80000001:
        entry.ecx &= ~amd_unwanted;
        break;
    case 0x80000008:
        entry.ecx = 0;
        break;
    case 0x8000001d:
        entry.eax &= 0x3fff;
        break;
    case kvm_leaves:
        entry.eax = std::max(entry.eax, frequency_leaf);
        break;
    case kvm_features_leaf:
        entry.eax &= ~kvm_unwanted;
        break;
    case 5:          // MWAIT
    case 0xa:        // performance counters
    case 0xb:        // topology, here and below: per vCPU
    case 0x12:       // SGX
    case 0x14:       // processor trace
    case 0x1c:       // architectural LBR
    case 0x1d:       // AMX
    case 0x1e:       // AMX
    case 0x1f:       // topology
    case 0x8000000a: // SVM
    case 0x8000001b: // IBS
    case 0x8000001e: // topology
    case 0x8000001f: // memory encryption
    case 0x80000022: // performance counters
    case 0x80000026: // topology
        clear(entry);
        break;
    default:
        break;
    }
}

/// Leaves 0xB and 0x1F: one thread per core, `count` cores per package.
void add_topology(
    std::vector<CpuidEntry>& entries,
    std::uint32_t leaf,
    std::uint32_t index,
    std::uint32_t count) {
    const auto core_bits = static_cast<std::uint32_t>(std::bit_width(count - 1));
    const auto level = [&](std::uint32_t subleaf, std::uint32_t shift, std::uint32_t processors) {
        const std::uint32_t type = processors == 0 ? 0 : subleaf + 1; // 1 thread, 2 core
        entries.push_back(
            {.leaf = leaf,
             .subleaf = subleaf,
             .subleaf_is_significant = true,
             .eax = shift,
             .ebx = processors,
             .ecx = subleaf | (type << 8U),
             .edx = index});
    };
    level(0, 0, 1);
    level(1, core_bits, count);
    level(2, 0, 0);
}

/// Bits 25:14 of leaves 4 and 0x8000001D: the highest level is shared by all, the others by none.
void set_sharing(CpuidEntry& entry, std::uint32_t count) {
    const std::uint32_t level = (entry.eax >> 5U) & 7U;
    if ((entry.eax & 0x1fU) == 0) {
        return; // no more caches
    }
    const std::uint32_t sharers = level >= 3 ? std::bit_ceil(count) : 1;
    entry.eax = (entry.eax & 0x3fffU) | ((sharers - 1) << 14U);
    if (entry.leaf == 4) {
        entry.eax |= std::min(std::bit_ceil(count) - 1, 63U) << 26U;
    }
}

} // namespace

Result<std::vector<CpuidEntry>> supported_cpuid(const System& system) {
    abi::CpuidTable table;
    table.count = static_cast<std::uint32_t>(table.entries.size());
    const auto got = call(system.fd(), abi::get_supported_cpuid, &table, "KVM_GET_SUPPORTED_CPUID");
    if (!got) {
        return fail(got.error());
    }
    std::vector<CpuidEntry> entries;
    for (std::uint32_t i = 0; i < table.count; ++i) {
        const auto& from = table.entries[i];
        entries.push_back(
            {.leaf = from.function,
             .subleaf = from.index,
             .subleaf_is_significant = (from.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
             .eax = from.eax,
             .ebx = from.ebx,
             .ecx = from.ecx,
             .edx = from.edx});
    }
    return entries;
}

std::vector<CpuidEntry>
offered_cpuid(std::vector<CpuidEntry> supported, const CpuidPolicy& policy) {
    for (auto& entry : supported) {
        restrict_leaf(entry, policy);
    }
    keep_xsave_components(supported, migratable_components);
    std::erase_if(supported, is_blank);
    std::erase_if(supported, [](const auto& entry) { return entry.leaf == frequency_leaf; });
    supported.push_back(
        {.leaf = frequency_leaf,
         .eax = static_cast<std::uint32_t>(policy.tsc_frequency_khz),
         .ebx = lapic_bus_khz});
    std::ranges::sort(
        supported, {}, [](const auto& entry) { return std::pair{entry.leaf, entry.subleaf}; });
    return supported;
}

std::vector<CpuidEntry>
cpuid_of_vcpu(std::span<const CpuidEntry> offered, std::uint32_t index, std::uint32_t count) {
    std::vector<CpuidEntry> entries{offered.begin(), offered.end()};
    std::uint32_t last_basic = 0;
    bool has_amd_topology = false;
    for (auto& entry : entries) {
        switch (entry.leaf) {
        case 0:
            last_basic = entry.eax;
            break;
        case 1:
            entry.ebx = (entry.ebx & 0xff00U) | (index << 24U) | (count << 16U);
            entry.edx |= count > 1 ? several_processors : 0U;
            break;
        case 4:
        case 0x8000001d:
            set_sharing(entry, count);
            break;
        case 0x80000001:
            has_amd_topology = (entry.ecx & bit(22)) != 0;
            break;
        case 0x80000008: {
            const auto id_bits = static_cast<std::uint32_t>(std::bit_width(count - 1));
            entry.ecx = (count - 1) | (id_bits << 12U);
            break;
        }
        default:
            break;
        }
    }
    for (const std::uint32_t leaf : {0xbU, 0x1fU}) {
        if (last_basic >= leaf) {
            add_topology(entries, leaf, index, count);
        }
    }
    if (has_amd_topology) {
        entries.push_back({.leaf = 0x8000001e, .eax = index, .ebx = index});
    }
    return entries;
}

} // namespace wherry::vmm::kvm
