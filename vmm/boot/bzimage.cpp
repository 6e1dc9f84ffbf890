// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.hpp"

#include "formats/little_endian.hpp"
#include "vmm/boot/initial_state.hpp"
#include "vmm/boot/layout.hpp"
#include "vmm/boot/memory_map.hpp"
#include "vmm/boot/tables.hpp"
#include "vmm/little_endian.hpp"

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

// Offsets in the file's first sectors, and in struct boot_params alike.
constexpr std::size_t setup_sectors_at = 0x1f1, system_size_at = 0x1f4, video_mode_at = 0x1fa;
constexpr std::size_t boot_flag_at = 0x1fe, header_length_at = 0x201, magic_at = 0x202;
constexpr std::size_t protocol_at = 0x206, version_at = 0x20e, loader_at = 0x210;
constexpr std::size_t load_flags_at = 0x211, ramdisk_at = 0x218, ramdisk_size_at = 0x21c;
constexpr std::size_t command_line_at = 0x228, initrd_highest_at = 0x22c, extended_flags_at = 0x236;
constexpr std::size_t command_line_size_at = 0x238, preferred_at = 0x258, initial_size_at = 0x260;
constexpr std::size_t minimal_size = 0x264;
// In struct boot_params alone.
constexpr std::size_t rsdp_at = 0x70, map_count_at = 0x1e8, header_end = 0x290, map_at = 0x2d0;

constexpr std::uint16_t oldest_protocol = 0x020c; // brought xloadflags
constexpr std::uint64_t entry_offset = 0x200;     // of startup_64
constexpr std::size_t sector = 512;

template <typename T>
T field(std::span<const std::byte> file, std::size_t at) {
    return load_le<T>(file, at).value_or(0);
}

/// Printable, up to the first blank, at most 64 characters: it ends up on terminals.
std::string version_of(std::span<const std::byte> file) {
    const std::size_t at = field<std::uint16_t>(file, version_at) + std::size_t{0x200};
    std::string text;
    for (std::size_t i = at; at != 0x200 && i < file.size() && text.size() < 64; ++i) {
        const char character = std::to_integer<char>(file[i]);
        if (character <= ' ' || character > '~') {
            break;
        }
        text.push_back(character);
    }
    return text;
}

std::string dotted(std::uint16_t protocol) {
    return fmt::format("{}.{:02}", protocol >> 8U, protocol & 0xffU);
}

Status require_usable(std::span<const std::byte> file) {
    const auto protocol = field<std::uint16_t>(file, protocol_at);
    if (protocol < oldest_protocol || file.size() < minimal_size) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "the bzImage has boot protocol {}, at least 2.12 is needed (Linux 3.8)",
                dotted(protocol)));
    }
    if ((field<std::uint16_t>(file, extended_flags_at) & 1U) == 0) {
        return fail(
            ErrorCode::invalid_argument, "the bzImage is a 32-bit kernel: a 64-bit one is needed");
    }
    return {};
}

Status write_zero_page(
    GuestMemory& memory, const BzImage& image, const CommonTables& tables, Bytes initrd_size) {
    std::array<std::byte, formats::page_size> page{};
    const auto put = [&](std::size_t at, auto value) {
        formats::store_little(page, at, value);
    };
    std::ranges::copy(image.header, page.begin() + BzImage::header_offset);
    put(loader_at, std::uint8_t{0xff}); // no registered boot loader
    constexpr std::uint8_t loaded_high = 0x01, can_use_heap = 0x80;
    const auto flags = field<std::uint8_t>(page, load_flags_at);
    put(load_flags_at, static_cast<std::uint8_t>((flags | loaded_high) & ~can_use_heap));
    put(video_mode_at, std::uint16_t{0xffff}); // normal
    put(command_line_at, static_cast<std::uint32_t>(layout::command_line.value()));
    if (tables.initrd) {
        put(ramdisk_at, static_cast<std::uint32_t>(tables.initrd->value()));
        put(ramdisk_size_at, static_cast<std::uint32_t>(initrd_size.value()));
    }
    if (tables.rsdp) {
        put(rsdp_at, tables.rsdp->value());
    }
    const auto map = memory_map(memory);
    put(map_count_at, static_cast<std::uint8_t>(map.size()));
    std::size_t at = map_at;
    for (const MemoryMapEntry& entry : map) {
        put(at, entry.first.value());
        put(at + 8, entry.size.value());
        put(at + 16, static_cast<std::uint32_t>(entry.type));
        at += 20;
    }
    return memory.write(layout::zero_page, page);
}

} // namespace

bool is_bzimage(std::span<const std::byte> file) noexcept {
    constexpr std::uint32_t magic = 0x53726448; // "HdrS"
    return load_le<std::uint16_t>(file, boot_flag_at) == std::uint16_t{0xaa55} &&
           load_le<std::uint32_t>(file, magic_at) == magic;
}

Result<BzImage> parse_bzimage(std::span<const std::byte> file) {
    if (!is_bzimage(file)) {
        return fail(ErrorCode::invalid_argument, "not a bzImage");
    }
    if (auto usable = require_usable(file); !usable) {
        return fail(std::move(usable).error());
    }
    const auto sectors = field<std::uint8_t>(file, setup_sectors_at);
    const std::size_t kernel_at = (sectors == 0 ? 5U : sectors + std::size_t{1}) * sector;
    const std::uint64_t kernel_size =
        std::uint64_t{field<std::uint32_t>(file, system_size_at)} * 16;
    if (kernel_size <= entry_offset || kernel_at > file.size() ||
        kernel_size > file.size() - kernel_at) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "the bzImage is truncated: it has {} bytes, its header speaks of {}",
                file.size(),
                kernel_at + kernel_size));
    }
    // The file is longer than kernel_at, which is at least two sectors: the header is inside.
    const std::size_t length =
        std::min<std::size_t>(magic_at + field<std::uint8_t>(file, header_length_at), header_end);
    BzImage image;
    image.protocol = field<std::uint16_t>(file, protocol_at);
    image.version = version_of(file);
    image.preferred_address = field<std::uint64_t>(file, preferred_at);
    image.initial_size =
        std::max<std::uint64_t>(field<std::uint32_t>(file, initial_size_at), kernel_size);
    image.initrd_highest_byte = field<std::uint32_t>(file, initrd_highest_at);
    image.command_line_size = field<std::uint32_t>(file, command_line_size_at);
    image.header = file.subspan(BzImage::header_offset, length - BzImage::header_offset);
    image.kernel = file.subspan(kernel_at, kernel_size);
    return image;
}

Result<InitialVcpu>
load_bzimage(GuestMemory& memory, const BootImages& images, const PlatformOptions& options) {
    const auto image = parse_bzimage(images.kernel);
    if (!image) {
        return fail(image.error());
    }
    // Wherever it is loaded, it unpacks itself to its preferred address or above.
    const Gpa at{image->preferred_address};
    const Bytes size{image->initial_size};
    if (auto fits = require_room(memory, at, size, "the kernel"); !fits) {
        return fail(std::move(fits).error());
    }
    if (auto written = memory.write(at, image->kernel); !written) {
        return fail(std::move(written).error().during("loading the kernel"));
    }
    const auto tables = write_common_tables(
        memory,
        images,
        options,
        at + size,
        Gpa{std::uint64_t{image->initrd_highest_byte} + 1},
        Bytes{image->command_line_size});
    if (!tables) {
        return fail(tables.error());
    }
    const Bytes initrd_size{images.initrd.size()};
    if (auto written = write_zero_page(memory, *image, *tables, initrd_size); !written) {
        return fail(std::move(written).error());
    }
    auto system = long_mode(memory);
    if (!system) {
        return fail(std::move(system).error());
    }
    InitialVcpu vcpu;
    vcpu.registers.rip = image->preferred_address + entry_offset;
    vcpu.registers.rsi = layout::zero_page.value();
    vcpu.system = *system;
    vcpu.msrs = firmware_msrs();
    vcpu.description = fmt::format(
        "Linux bzImage {}, boot protocol {}",
        image->version.empty() ? "of unknown version" : image->version,
        dotted(image->protocol));
    return vcpu;
}

} // namespace wherry::vmm::boot
