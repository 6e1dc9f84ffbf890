// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/boot_info.hpp"

extern "C" std::uint64_t start_info_address;

namespace wherry::guest {

BootInfo boot_info;

namespace {

// Xen public headers, arch-x86/hvm/start_info.h.
struct StartInfo {
    std::uint32_t magic;
    std::uint32_t version;
    std::uint32_t flags;
    std::uint32_t module_count;
    std::uint64_t modules;
    std::uint64_t command_line;
    std::uint64_t rsdp;
    std::uint64_t memory_map;
    std::uint32_t memory_map_entries;
    std::uint32_t reserved;
};

struct MemoryMapEntry {
    std::uint64_t address;
    std::uint64_t size;
    std::uint32_t type;
    std::uint32_t reserved;
};

constexpr std::uint32_t start_info_magic = 0x336ec578;
constexpr std::uint32_t type_ram = 1;

template <typename T>
const T* at_physical(std::uint64_t address) noexcept {
    return reinterpret_cast<const T*>(address);
}

bool is_signature(const CpuidLeaf& leaf, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
    return leaf.ebx == b && leaf.ecx == c && leaf.edx == d;
}

CpuFacts read_cpu_facts() noexcept {
    CpuFacts facts{};
    const auto highest = cpuid(0).eax;
    const auto features = cpuid(1);
    facts.has_lapic = (features.edx & (1U << 9)) != 0;
    facts.has_x2apic = (features.ecx & (1U << 21)) != 0;
    facts.has_tsc_deadline = (features.ecx & (1U << 24)) != 0;
    const auto hypervisor = cpuid(0x40000000);
    facts.is_soft = is_signature(hypervisor, 0x72656857, 0x6f537972, 0x00007466);
    if (hypervisor.eax >= 0x40000010 && hypervisor.eax < 0x40010000) {
        facts.tsc_khz = cpuid(0x40000010).eax;
    }
    if (facts.tsc_khz == 0 && highest >= 0x15) {
        const auto clock = cpuid(0x15); // eax/ebx: ratio TSC to crystal, ecx: crystal in Hz
        if (clock.eax != 0 && clock.ebx != 0 && clock.ecx != 0) {
            const auto hertz = std::uint64_t{clock.ecx} * clock.ebx / clock.eax;
            facts.tsc_khz = static_cast<std::uint32_t>(hertz / 1000);
        }
    }
    facts.ring0_tsc = read_tsc();
    return facts;
}

} // namespace

void read_loader_structures() noexcept {
    boot_info.facts = read_cpu_facts();
    const auto& info = *at_physical<StartInfo>(start_info_address);
    if (info.magic != start_info_magic || info.command_line == 0) {
        return;
    }
    const auto* text = at_physical<char>(info.command_line);
    auto& length = boot_info.command_line_length;
    while (length < boot_info.command_line.size() && text[length] != '\0') {
        boot_info.command_line[length] = text[length];
        ++length;
    }
}

bool read_memory_map() noexcept {
    const auto& info = *at_physical<StartInfo>(start_info_address);
    if (info.magic != start_info_magic || info.version < 1 || info.memory_map == 0) {
        return false;
    }
    const auto* entries = at_physical<MemoryMapEntry>(info.memory_map);
    for (std::uint32_t i = 0; i < info.memory_map_entries; ++i) {
        const auto first = (entries[i].address + page_bytes - 1) & ~(page_bytes - 1);
        const auto end = (entries[i].address + entries[i].size) & ~(page_bytes - 1);
        if (entries[i].type == type_ram && end > first && boot_info.ram_count < 16) {
            boot_info.ram[boot_info.ram_count++] = {first, end - first};
        }
    }
    return boot_info.ram_count != 0;
}

} // namespace wherry::guest
