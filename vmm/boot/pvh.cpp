// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/pvh.hpp"

#include "formats/little_endian.hpp"
#include "vmm/boot/elf_image.hpp"
#include "vmm/boot/initial_state.hpp"
#include "vmm/boot/layout.hpp"
#include "vmm/boot/memory_map.hpp"
#include "vmm/boot/tables.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::vmm::boot {
namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Gpa;
using formats::Result;
using formats::Status;

constexpr std::uint32_t start_magic = 0x336ec578;
constexpr std::size_t module_list_offset = 0x40;
constexpr std::size_t memory_map_offset = 0x80;

/// One past the highest byte any segment takes.
Result<Gpa> load_segments(GuestMemory& memory, const ElfImage& image) {
    Gpa end = layout::high;
    for (const ElfSegment& segment : image.segments) {
        const Gpa at{segment.physical_address};
        const Bytes size{segment.memory_size};
        const auto what = fmt::format("a segment of the kernel ({} bytes)", size.value());
        if (auto fits = require_room(memory, at, size, what); !fits) {
            return fail(std::move(fits).error());
        }
        // What lies behind the content is zero already: the memory is fresh.
        if (auto written = memory.write(at, segment.content); !written) {
            return fail(std::move(written).error().during("loading the kernel"));
        }
        end = std::max(end, at + size);
    }
    return end;
}

Result<std::uint64_t> entry_of(const ElfImage& image) {
    const auto entry = image.pvh_entry;
    if (!entry) {
        return fail(
            ErrorCode::invalid_argument,
            "an ELF file without a PVH entry (note XEN_ELFNOTE_PHYS32_ENTRY): give a kernel built "
            "with CONFIG_PVH=y, or its bzImage");
    }
    const bool is_inside = std::ranges::any_of(image.segments, [&](const ElfSegment& segment) {
        return *entry >= segment.physical_address &&
               *entry - segment.physical_address < segment.content.size();
    });
    if (!is_inside) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("its PVH entry {:#x} is in none of its segments", *entry));
    }
    return *entry;
}

Status write_start_info(GuestMemory& memory, const CommonTables& tables, Bytes initrd_size) {
    std::array<std::byte, formats::page_size> page{};
    const auto put = [&](std::size_t at, auto value) {
        formats::store_little(page, at, value);
    };
    const std::uint64_t base = layout::start_info.value();
    const auto map = memory_map(memory);
    put(0, start_magic);
    put(4, std::uint32_t{1}); // version
    put(12, std::uint32_t{tables.initrd ? 1U : 0U});
    if (tables.initrd) {
        put(16, std::uint64_t{base + module_list_offset});
        put(module_list_offset, tables.initrd->value());
        put(module_list_offset + 8, initrd_size.value());
    }
    put(24, layout::command_line.value());
    put(32, tables.rsdp ? tables.rsdp->value() : std::uint64_t{0});
    put(40, std::uint64_t{base + memory_map_offset});
    put(48, static_cast<std::uint32_t>(map.size()));
    std::size_t at = memory_map_offset;
    for (const MemoryMapEntry& entry : map) {
        put(at, entry.first.value());
        put(at + 8, entry.size.value());
        put(at + 16, static_cast<std::uint32_t>(entry.type));
        at += 24;
    }
    return memory.write(layout::start_info, page);
}

} // namespace

Result<InitialVcpu>
load_pvh(GuestMemory& memory, const BootImages& images, const PlatformOptions& options) {
    const auto image = parse_elf(images.kernel);
    if (!image) {
        return fail(image.error());
    }
    const auto entry = entry_of(*image);
    if (!entry) {
        return fail(entry.error());
    }
    const auto kernel_end = load_segments(memory, *image);
    if (!kernel_end) {
        return fail(kernel_end.error());
    }
    const auto tables = write_common_tables(
        memory, images, options, *kernel_end, low_ram_end(memory), layout::command_line_room);
    if (!tables) {
        return fail(tables.error());
    }
    if (auto written = write_start_info(memory, *tables, Bytes{images.initrd.size()}); !written) {
        return fail(std::move(written).error());
    }
    InitialVcpu vcpu;
    vcpu.registers.rip = *entry;
    vcpu.registers.rbx = layout::start_info.value();
    vcpu.msrs = firmware_msrs();
    vcpu.description = fmt::format("{}-bit PVH ELF", image->is_64_bit ? 64 : 32);
    vcpu.system = protected_mode();
    return vcpu;
}

} // namespace wherry::vmm::boot
