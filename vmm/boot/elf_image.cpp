// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_image.hpp"

#include "vmm/little_endian.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>

#include <fmt/format.h>

namespace wherry::vmm::boot {
namespace {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

constexpr std::size_t max_program_headers = 128;
constexpr std::uint64_t max_note_bytes = 1U << 20U;
constexpr std::uint32_t segment_load = 1;
constexpr std::uint32_t segment_note = 4;

/// One program header, of either class.
struct ProgramHeader {
    std::uint32_t type = 0;
    std::uint64_t offset = 0, physical = 0, file_size = 0, memory_size = 0, alignment = 0;
};

/// Offsets of the fields that differ between ELFCLASS32 and ELFCLASS64 (System V gABI, chapter 4
/// and 5).
struct ClassLayout {
    std::uint64_t table_offset, entry_size_at, count_at, header_size;
    std::uint64_t minimal_entry;
    std::uint64_t offset_at, physical_at, file_size_at, memory_size_at, alignment_at;
};
constexpr ClassLayout layout_32{28, 42, 44, 52, 32, 4, 12, 16, 20, 28};
constexpr ClassLayout layout_64{32, 54, 56, 64, 56, 8, 24, 32, 40, 48};

class ElfReader {
public:
    ElfReader(std::span<const std::byte> file, bool is_64_bit)
        : file_{file},
          is_64_bit_{is_64_bit},
          layout_{is_64_bit ? layout_64 : layout_32} {}

    Result<std::vector<ProgramHeader>> program_headers() const {
        const auto table = word(layout_.table_offset);
        const std::uint64_t entry_size =
            load_le<std::uint16_t>(file_, layout_.entry_size_at).value_or(0);
        const std::uint64_t count = load_le<std::uint16_t>(file_, layout_.count_at).value_or(0);
        if (entry_size < layout_.minimal_entry || count == 0 || count > max_program_headers) {
            return refuse(fmt::format(
                "it has {} program headers of {} bytes (1 to {} are read)",
                count,
                entry_size,
                max_program_headers));
        }
        if (!contains(table, entry_size * count)) {
            return refuse("its program headers reach beyond its end");
        }
        std::vector<ProgramHeader> headers;
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t at = table + i * entry_size;
            headers.push_back(
                {.type = load_le<std::uint32_t>(file_, at).value_or(0),
                 .offset = word(at + layout_.offset_at),
                 .physical = word(at + layout_.physical_at),
                 .file_size = word(at + layout_.file_size_at),
                 .memory_size = word(at + layout_.memory_size_at),
                 .alignment = word(at + layout_.alignment_at)});
        }
        return headers;
    }

    Status add(ElfImage& image, const ProgramHeader& header) const {
        if (header.type != segment_load && header.type != segment_note) {
            return {};
        }
        if (!contains(header.offset, header.file_size)) {
            return refuse(fmt::format(
                "a segment of {} bytes at offset {:#x} reaches beyond its end, it is truncated",
                header.file_size,
                header.offset));
        }
        const auto content = file_.subspan(header.offset, header.file_size);
        if (header.type == segment_note) {
            return add_notes(image, content, header.alignment == 8 ? 8 : 4);
        }
        if (header.memory_size < header.file_size ||
            header.memory_size > std::numeric_limits<std::uint64_t>::max() - header.physical) {
            return refuse(fmt::format(
                "its segment at {:#x} has an impossible size in memory, {:#x}",
                header.physical,
                header.memory_size));
        }
        if (header.memory_size > 0) {
            image.segments.push_back({header.physical, header.memory_size, content});
        }
        return {};
    }

    static std::unexpected<formats::Error> refuse(std::string_view why) {
        return fail(ErrorCode::invalid_argument, fmt::format("the ELF file is refused: {}", why));
    }

private:
    [[nodiscard]] bool contains(std::uint64_t at, std::uint64_t size) const noexcept {
        return at <= file_.size() && size <= file_.size() - at;
    }
    /// An address-sized field; 0 beyond the end (ranges were checked before).
    [[nodiscard]] std::uint64_t word(std::uint64_t at) const noexcept {
        return is_64_bit_ ? load_le<std::uint64_t>(file_, at).value_or(0)
                          : load_le<std::uint32_t>(file_, at).value_or(0);
    }

    static std::uint64_t aligned(std::uint64_t value, std::uint64_t alignment) noexcept {
        return (value + alignment - 1) & ~(alignment - 1);
    }

    static Status
    add_notes(ElfImage& image, std::span<const std::byte> notes, std::uint64_t alignment) {
        if (notes.size() > max_note_bytes) {
            return refuse(fmt::format("it has {} bytes of notes", notes.size()));
        }
        std::uint64_t at = 0;
        // Sums of 32-bit sizes and offsets within 1 MiB do not wrap in 64 bits.
        while (notes.size() - at >= 12) {
            const std::uint64_t name_size = load_le<std::uint32_t>(notes, at).value_or(0);
            const std::uint64_t value_size = load_le<std::uint32_t>(notes, at + 4).value_or(0);
            const auto type = load_le<std::uint32_t>(notes, at + 8).value_or(0);
            const std::uint64_t name_at = at + 12;
            const std::uint64_t value_at = aligned(name_at + name_size, alignment);
            const std::uint64_t end = value_at + value_size;
            if (end > notes.size()) {
                return refuse("a note reaches beyond its segment");
            }
            add_note(
                image,
                notes.subspan(name_at, name_size),
                type,
                notes.subspan(value_at, value_size));
            at = std::min<std::uint64_t>(aligned(end, alignment), notes.size());
        }
        return {};
    }

    static void add_note(
        ElfImage& image,
        std::span<const std::byte> name,
        std::uint32_t type,
        std::span<const std::byte> value) {
        const auto is_named = [&](std::string_view wanted) {
            return name.size() == wanted.size() + 1 && name.back() == std::byte{0} &&
                   std::memcmp(name.data(), wanted.data(), wanted.size()) == 0;
        };
        // XEN_ELFNOTE_PHYS32_ENTRY has 4 bytes in 32-bit files and 8 in Linux's 64-bit ones.
        if (is_named("Xen") && type == 18) {
            if (const auto wide = load_le<std::uint64_t>(value, 0)) {
                image.pvh_entry = *wide;
            } else if (const auto narrow = load_le<std::uint32_t>(value, 0)) {
                image.pvh_entry = *narrow;
            }
        }
    }

    std::span<const std::byte> file_;
    bool is_64_bit_;
    ClassLayout layout_;
};

} // namespace

bool is_elf(std::span<const std::byte> file) noexcept {
    constexpr std::array magic{std::byte{0x7f}, std::byte{'E'}, std::byte{'L'}, std::byte{'F'}};
    return file.size() >= magic.size() && std::equal(magic.begin(), magic.end(), file.begin());
}

Result<ElfImage> parse_elf(std::span<const std::byte> file) {
    if (!is_elf(file)) {
        return fail(ErrorCode::invalid_argument, "not an ELF file");
    }
    const auto file_class = load_le<std::uint8_t>(file, 4).value_or(0);
    const auto byte_order = load_le<std::uint8_t>(file, 5).value_or(0);
    const auto machine = load_le<std::uint16_t>(file, 18).value_or(0);
    if ((file_class != 1 && file_class != 2) || byte_order != 1 ||
        (machine != 3 && machine != 62)) {
        return ElfReader::refuse("it is not for x86");
    }
    const ElfReader reader{file, file_class == 2};
    const auto headers = reader.program_headers();
    if (!headers) {
        return fail(headers.error());
    }
    ElfImage image{.is_64_bit = file_class == 2, .segments = {}, .pvh_entry = {}};
    for (const ProgramHeader& header : *headers) {
        if (const auto added = reader.add(image, header); !added) {
            return fail(added.error());
        }
    }
    if (image.segments.empty()) {
        return ElfReader::refuse("it has nothing to load");
    }
    return image;
}

} // namespace wherry::vmm::boot
