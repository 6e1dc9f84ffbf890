// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/tables.hpp"

#include "vmm/boot/acpi.hpp"
#include "vmm/boot/layout.hpp"
#include "vmm/boot/memory_map.hpp"
#include "vmm/platform_layout.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::boot {
namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Gpa;
using formats::Status;

Status write_command_line(GuestMemory& memory, std::string_view line, Bytes limit) {
    const Bytes longest = std::min(limit, layout::command_line_room - Bytes{1});
    if (line.size() > longest.value()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "the command line has {} bytes, this kernel takes at most {}: shorten --cmdline",
                line.size(),
                longest.value()));
    }
    if (line.contains('\0')) {
        return fail(ErrorCode::invalid_argument, "the command line contains a NUL byte");
    }
    std::string terminated{line};
    terminated.push_back('\0');
    return memory.write(layout::command_line, std::as_bytes(std::span{terminated}));
}

/// Code at the reset vector that resets the machine. Linux on hardware-reduced ACPI without UEFI
/// goes there to reboot, before it tries any reset register.
Status write_reset_code(GuestMemory& memory) {
    constexpr std::uint16_t port = platform_layout::reset_port;
    constexpr std::uint8_t low = port & 0xffU, high = port >> 8U;
    // mov dx, port; mov al, value; out dx, al; hlt; jmp to the hlt
    constexpr std::array<std::uint8_t, 9> code{
        0xba, low, high, 0xb0, platform_layout::reset_value, 0xee, 0xf4, 0xeb, 0xfd};
    return memory.write(layout::reset_vector, std::as_bytes(std::span{code}));
}

} // namespace

formats::Result<CommonTables> write_common_tables(
    GuestMemory& memory,
    const BootImages& images,
    const PlatformOptions& options,
    Gpa kernel_end,
    Gpa initrd_limit,
    Bytes line_limit) {
    if (auto written = write_command_line(memory, images.command_line, line_limit); !written) {
        return fail(std::move(written).error());
    }
    if (auto written = write_reset_code(memory); !written) {
        return fail(std::move(written).error());
    }
    const auto& id = options.generation_id.bytes;
    if (auto written = memory.write(platform_layout::generation_id, id); !written) {
        return fail(std::move(written).error());
    }
    CommonTables tables;
    if (!images.initrd.empty()) {
        auto place = place_initrd(memory, Bytes{images.initrd.size()}, kernel_end, initrd_limit);
        if (!place) {
            return fail(std::move(place).error());
        }
        if (auto written = memory.write(*place, images.initrd); !written) {
            return fail(std::move(written).error().during("loading the initrd"));
        }
        tables.initrd = *place;
    }
    if (options.has_interrupt_controller) {
        const auto acpi = acpi_tables(options.vcpus, layout::acpi);
        if (auto written = memory.write(layout::acpi, acpi); !written) {
            return fail(std::move(written).error().during("writing the ACPI tables"));
        }
        tables.rsdp = layout::acpi;
    }
    return tables;
}

} // namespace wherry::vmm::boot
