// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/initial_state.hpp"

#include "formats/little_endian.hpp"
#include "vmm/boot/layout.hpp"
#include "vmm/platform_layout.hpp"

#include <array>
#include <cstddef>
#include <span>

namespace wherry::vmm::boot {
namespace {

using formats::Gpa;
using formats::page_size;

constexpr std::uint16_t code_selector = 0x10;
constexpr std::uint16_t data_selector = 0x18;
constexpr std::uint32_t code_32_attributes = 0xc09b; // G D P S, executable, read, accessed
constexpr std::uint32_t code_64_attributes = 0xa09b; // G L P S, executable, read, accessed
constexpr std::uint32_t data_attributes = 0xc093;    // G B P S, writable, accessed
constexpr std::uint32_t task_attributes = 0x8b;      // P, busy 32/64-bit TSS
constexpr std::uint32_t unusable = 0x10000;

constexpr std::uint64_t cr0_protected = 0x11; // PE ET
constexpr std::uint64_t cr0_paged = 0x80000011;
constexpr std::uint64_t cr4_physical_extension = 0x20;
constexpr std::uint64_t efer_long_mode = 0x500;  // LME LMA
constexpr std::uint64_t apic_base_flags = 0x900; // enabled, boot processor
constexpr std::uint64_t page_flags = 0x3;        // present, writable
constexpr std::uint64_t large_page_flags = 0x83; // ... 2 MiB
constexpr std::uint64_t large_page = 2U << 20U;
constexpr std::size_t entries_per_table = 512;
constexpr std::size_t directories = 4; // 1 GiB each

SystemRegisters flat(std::uint32_t code_attributes) {
    const Segment data{0, 0xffffffff, data_selector, data_attributes};
    SystemRegisters system;
    system.cs = {0, 0xffffffff, code_selector, code_attributes};
    system.ds = system.es = system.fs = system.gs = system.ss = data;
    system.tr = {0, 0x67, 0, task_attributes};
    system.ldt = {0, 0, 0, unusable};
    system.cr0 = cr0_protected;
    system.apic_base = platform_layout::local_apic.value() | apic_base_flags;
    return system;
}

std::vector<std::byte> identity_tables() {
    std::vector<std::byte> tables((2 + directories) * page_size);
    const std::uint64_t pointers = layout::page_tables.value() + page_size;
    const std::uint64_t first_directory = pointers + page_size;
    formats::store_little<std::uint64_t>(tables, 0, pointers | page_flags);
    for (std::size_t i = 0; i < directories; ++i) {
        formats::store_little<std::uint64_t>(
            tables, page_size + i * 8, (first_directory + i * page_size) | page_flags);
    }
    for (std::size_t i = 0; i < directories * entries_per_table; ++i) {
        formats::store_little<std::uint64_t>(
            tables, 2 * page_size + i * 8, (i * large_page) | large_page_flags);
    }
    return tables;
}

} // namespace

SystemRegisters protected_mode() {
    return flat(code_32_attributes);
}

formats::Result<SystemRegisters> long_mode(GuestMemory& memory) {
    if (const auto written = memory.write(layout::page_tables, identity_tables()); !written) {
        return formats::fail(written.error());
    }
    std::array<std::byte, 4 * 8> descriptors{};
    formats::store_little<std::uint64_t>(descriptors, code_selector, 0x00af9b000000ffff);
    formats::store_little<std::uint64_t>(descriptors, data_selector, 0x00cf93000000ffff);
    if (const auto written = memory.write(layout::descriptor_table, descriptors); !written) {
        return formats::fail(written.error());
    }
    SystemRegisters system = flat(code_64_attributes);
    system.gdt = {layout::descriptor_table.value(), descriptors.size() - 1};
    system.cr0 = cr0_paged;
    system.cr3 = layout::page_tables.value();
    system.cr4 = cr4_physical_extension;
    system.efer = efer_long_mode;
    return system;
}

std::vector<Msr> firmware_msrs() {
    constexpr std::uint32_t mtrr_default_type = 0x2ff;
    constexpr std::uint64_t enabled_write_back = 0x806; // E, type 6 (SDM vol. 3, 12.11.2.1)
    return {{mtrr_default_type, enabled_write_back}};
}

} // namespace wherry::vmm::boot
