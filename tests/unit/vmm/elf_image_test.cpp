// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_image.hpp"

#include "tests/unit/vmm/boot_images.hpp"

#include <algorithm>
#include <random>

#include <doctest/doctest.h>

using namespace wherry;
using tests::make_elf;
using tests::pvh_note;

namespace {
const std::vector<std::byte> some_code(100, std::byte{0x90});
}

TEST_SUITE("vmm.elf_image") {
    TEST_CASE("segments and the PVH entry are found") {
        const auto file = make_elf(pvh_note(0x100010), {{0x100000, some_code, 4096}});
        const auto image = vmm::boot::parse_elf(file);
        REQUIRE(image);
        CHECK(image->is_64_bit);
        CHECK(image->pvh_entry == 0x100010);
        REQUIRE(image->segments.size() == 1);
        CHECK(image->segments[0].physical_address == 0x100000);
        CHECK(image->segments[0].memory_size == 4096);
        CHECK(std::ranges::equal(image->segments[0].content, some_code));
    }

    TEST_CASE("notes of others are passed over") {
        std::vector<std::byte> notes;
        tests::append_note(notes, "GNU", 18, 1);
        tests::append_note(notes, "Xen", 17, 2);
        tests::append_note(notes, "wherry", 1, 3);
        tests::append_note(notes, "Xen", 18, 4);
        const auto file = make_elf(notes, {{0x100000, some_code, 100}});
        const auto image = vmm::boot::parse_elf(file);
        REQUIRE(image);
        CHECK(image->pvh_entry == 4);
    }

    TEST_CASE("a 32-bit program with a 4-byte entry is read") {
        std::vector<std::byte> file(52 + 2 * 32 + 20 + 16);
        formats::store_little<std::uint32_t>(file, 0, 0x464c457f);
        formats::store_little<std::uint8_t>(file, 4, 1);
        formats::store_little<std::uint8_t>(file, 5, 1);
        formats::store_little<std::uint16_t>(file, 18, 3);
        formats::store_little<std::uint32_t>(file, 28, 52);
        formats::store_little<std::uint16_t>(file, 42, 32);
        formats::store_little<std::uint16_t>(file, 44, 2);
        formats::store_little<std::uint32_t>(file, 52, 4); // notes
        formats::store_little<std::uint32_t>(file, 56, 116);
        formats::store_little<std::uint32_t>(file, 68, 20);
        formats::store_little<std::uint32_t>(file, 116, 4);
        formats::store_little<std::uint32_t>(file, 120, 4);
        formats::store_little<std::uint32_t>(file, 124, 18);
        formats::store_little<std::uint32_t>(file, 128, 0x006e6558); // "Xen"
        formats::store_little<std::uint32_t>(file, 132, 0x123456);
        formats::store_little<std::uint32_t>(file, 84, 1); // load
        formats::store_little<std::uint32_t>(file, 88, 136);
        formats::store_little<std::uint32_t>(file, 96, 0x200000);
        formats::store_little<std::uint32_t>(file, 100, 16);
        formats::store_little<std::uint32_t>(file, 104, 32);
        const auto image = vmm::boot::parse_elf(file);
        REQUIRE(image);
        CHECK_FALSE(image->is_64_bit);
        CHECK(image->pvh_entry == 0x123456);
        REQUIRE(image->segments.size() == 1);
        CHECK(image->segments[0].physical_address == 0x200000);
        CHECK(image->segments[0].memory_size == 32);
    }

    TEST_CASE("a file cut anywhere is refused") {
        const auto file = make_elf(pvh_note(0x100010), {{0x100000, some_code, 4096}});
        for (std::size_t size = 0; size < file.size(); ++size) {
            CAPTURE(size);
            CHECK_FALSE(vmm::boot::parse_elf(std::span{file}.first(size)));
        }
    }

    TEST_CASE("a segment that wraps around the address space is refused") {
        const auto file = make_elf(pvh_note(16), {{~std::uint64_t{0} - 10, some_code, 4096}});
        CHECK_FALSE(vmm::boot::parse_elf(file));
    }

    TEST_CASE("a segment smaller in memory than in the file is refused") {
        CHECK_FALSE(vmm::boot::parse_elf(make_elf(pvh_note(16), {{0x100000, some_code, 99}})));
    }

    TEST_CASE("a note that claims more than its segment is refused") {
        auto notes = pvh_note(16);
        formats::store_little<std::uint32_t>(notes, 4, 0xffffffff);
        CHECK_FALSE(vmm::boot::parse_elf(make_elf(notes, {{0x100000, some_code, 100}})));
    }

    TEST_CASE("any single wrong byte gives a result inside the file or an error") {
        const auto good = make_elf(pvh_note(0x100010), {{0x100000, some_code, 4096}});
        std::mt19937 random{20};
        std::size_t refused = 0;
        for (int turn = 0; turn < 20'000; ++turn) {
            auto file = good;
            file[random() % 240] = static_cast<std::byte>(random());
            const auto image = vmm::boot::parse_elf(file);
            if (!image) {
                ++refused;
                continue;
            }
            for (const auto& segment : image->segments) {
                CHECK(segment.content.data() >= file.data());
                CHECK(segment.content.data() + segment.content.size() <= file.data() + file.size());
                CHECK(segment.memory_size >= segment.content.size());
            }
        }
        CHECK(refused > 0);
    }
}
