// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/little_endian.hpp"
#include "vmm/little_endian.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace wherry::tests {

struct SegmentSpec {
    std::uint64_t physical;
    std::vector<std::byte> content;
    std::uint64_t memory_size;
};

inline void append_note(
    std::vector<std::byte>& to, std::string_view name, std::uint32_t type, std::uint64_t value) {
    vmm::append_le(to, static_cast<std::uint32_t>(name.size() + 1));
    vmm::append_le(to, std::uint32_t{8});
    vmm::append_le(to, type);
    for (const char character : name) {
        to.push_back(static_cast<std::byte>(character));
    }
    do {
        to.push_back(std::byte{0});
    } while (to.size() % 4 != 0);
    vmm::append_le(to, value);
}

/// A 64-bit ELF program: header, program headers, notes, segments. The first program header is
/// the notes' one, at file offset 64.
inline std::vector<std::byte>
make_elf(const std::vector<std::byte>& notes, const std::vector<SegmentSpec>& segments) {
    constexpr std::size_t header_size = 64, entry_size = 56;
    std::vector<std::byte> file(header_size + entry_size * (1 + segments.size()));
    formats::store_little<std::uint32_t>(file, 0, 0x464c457f);
    formats::store_little<std::uint8_t>(file, 4, 2);
    formats::store_little<std::uint8_t>(file, 5, 1);
    formats::store_little<std::uint16_t>(file, 16, 2);
    formats::store_little<std::uint16_t>(file, 18, 62);
    formats::store_little<std::uint64_t>(file, 32, header_size);
    formats::store_little<std::uint16_t>(file, 54, entry_size);
    formats::store_little<std::uint16_t>(file, 56, static_cast<std::uint16_t>(1 + segments.size()));
    std::size_t at = header_size;
    const auto add = [&](std::uint32_t type, const SegmentSpec& segment) {
        formats::store_little<std::uint32_t>(file, at, type);
        formats::store_little<std::uint64_t>(file, at + 8, file.size());
        formats::store_little<std::uint64_t>(file, at + 24, segment.physical);
        formats::store_little<std::uint64_t>(file, at + 32, segment.content.size());
        formats::store_little<std::uint64_t>(file, at + 40, segment.memory_size);
        formats::store_little<std::uint64_t>(file, at + 48, 4);
        file.insert(file.end(), segment.content.begin(), segment.content.end());
        at += entry_size;
    };
    add(4, {0, notes, 0});
    for (const SegmentSpec& segment : segments) {
        add(1, segment);
    }
    return file;
}

inline std::vector<std::byte> pvh_note(std::uint64_t entry) {
    std::vector<std::byte> notes;
    append_note(notes, "Xen", 18, entry);
    return notes;
}

/// A bzImage of two setup sectors and 2 KiB of kernel, every byte of which is 0xab.
inline std::vector<std::byte> make_bzimage() {
    constexpr std::size_t setup = 3 * 512, kernel = 2048;
    std::vector<std::byte> file(setup + kernel);
    std::fill(file.begin() + setup, file.end(), std::byte{0xab});
    formats::store_little<std::uint8_t>(file, 0x1f1, 2);
    formats::store_little<std::uint32_t>(file, 0x1f4, kernel / 16);
    formats::store_little<std::uint16_t>(file, 0x1fe, 0xaa55);
    formats::store_little<std::uint8_t>(file, 0x201, 0x6a);
    formats::store_little<std::uint32_t>(file, 0x202, 0x53726448);
    formats::store_little<std::uint16_t>(file, 0x206, 0x020f);
    formats::store_little<std::uint16_t>(file, 0x20e, 0x100); // version text at 0x300
    constexpr std::string_view version = "6.1.0-test (someone@somewhere)";
    for (std::size_t i = 0; i < version.size(); ++i) {
        file[0x300 + i] = static_cast<std::byte>(version[i]);
    }
    formats::store_little<std::uint8_t>(file, 0x211, 0x81);
    formats::store_little<std::uint32_t>(file, 0x22c, 0x7fffffff);
    formats::store_little<std::uint16_t>(file, 0x236, 1);
    formats::store_little<std::uint32_t>(file, 0x238, 2047);
    formats::store_little<std::uint64_t>(file, 0x258, 0x1000000);
    formats::store_little<std::uint32_t>(file, 0x260, 0x800000);
    return file;
}

} // namespace wherry::tests
