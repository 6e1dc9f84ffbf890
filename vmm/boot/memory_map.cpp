// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/memory_map.hpp"

#include "vmm/boot/layout.hpp"
#include "vmm/platform_layout.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::vmm::boot {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Gpa;
using formats::Result;
using formats::Status;

std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory) {
    std::vector<MemoryMapEntry> map{
        {Gpa{0}, layout::low_end - Gpa{0}, MemoryType::usable},
        {layout::low_end, layout::low_hole - layout::low_end, MemoryType::reserved},
        {platform_layout::generation_page, formats::page_bytes, MemoryType::reserved},
        {layout::acpi, layout::high - layout::acpi, MemoryType::acpi},
    };
    // Hypervisors that need three pages for real mode on old Intel CPUs and an identity map take
    // them here (KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR).
    constexpr MemoryMapEntry hypervisor{Gpa{0xfeffc000}, Bytes{0x4000}, MemoryType::reserved};
    for (const MemoryRegion& region : memory.regions()) {
        const Gpa first = std::max(formats::gpa_of(region.pages.first()), layout::high);
        const Gpa end = formats::gpa_of(region.pages.end());
        if (first < end) {
            map.push_back({first, end - first, MemoryType::usable});
        }
    }
    map.push_back(hypervisor);
    std::ranges::sort(map, {}, &MemoryMapEntry::first);
    return map;
}

Gpa low_ram_end(const GuestMemory& memory) {
    return formats::gpa_of(memory.regions().front().pages.end());
}

Status require_room(const GuestMemory& memory, Gpa at, Bytes size, std::string_view what) {
    if (at < layout::high) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} wants to be at {:#x}, below 1 MiB, where the boot tables are",
                what,
                at.value()));
    }
    const Gpa end = low_ram_end(memory);
    if (at < end && size <= end - at) {
        return {};
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format(
            "{} wants {} KiB at {:#x}, but the guest's RAM there ends at {:#x}: give it more "
            "with --memory",
            what,
            (size.value() + 1023) / 1024,
            at.value(),
            end.value()));
}

Result<Gpa> place_initrd(const GuestMemory& memory, Bytes size, Gpa above, Gpa limit) {
    const Gpa end = std::min(low_ram_end(memory), limit);
    if (above <= end && size <= end - above) {
        const std::uint64_t at = (end - size).value() & ~std::uint64_t{formats::page_size - 1};
        if (at >= above.value()) {
            return Gpa{at};
        }
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format(
            "the initrd has {} KiB and does not fit between the kernel, which ends at {:#x}, and "
            "{:#x}: give the guest more RAM with --memory",
            (size.value() + 1023) / 1024,
            above.value(),
            end.value()));
}

} // namespace wherry::vmm::boot
