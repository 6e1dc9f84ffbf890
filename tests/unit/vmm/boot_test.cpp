// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot.hpp"

#include "tests/unit/vmm/boot_images.hpp"
#include "vmm/platform_layout.hpp"

#include <algorithm>
#include <array>
#include <string>

#include <doctest/doctest.h>

using namespace wherry;
using formats::Gpa;
using formats::operator""_MiB;
using tests::make_bzimage;
using tests::make_elf;
using tests::pvh_note;
using vmm::boot::BootImages;
using vmm::boot::PlatformOptions;

namespace {

const std::vector<std::byte> some_code(5000, std::byte{0x90});
const std::vector<std::byte> some_initrd(3 * 4096 + 17, std::byte{0x42});

vmm::GuestMemory make_memory(formats::Bytes size) {
    auto memory = vmm::GuestMemory::create(size);
    REQUIRE(memory);
    return *std::move(memory);
}

std::vector<std::byte> bytes_at(const vmm::GuestMemory& memory, std::uint64_t at, std::size_t n) {
    std::vector<std::byte> bytes(n);
    REQUIRE(memory.read(Gpa{at}, bytes));
    return bytes;
}

template <typename T>
T value_at(const vmm::GuestMemory& memory, std::uint64_t at) {
    return vmm::load_le<T>(bytes_at(memory, at, sizeof(T)), 0).value();
}

std::string text_at(const vmm::GuestMemory& memory, std::uint64_t at, std::size_t n) {
    const auto bytes = bytes_at(memory, at, n);
    return {reinterpret_cast<const char*>(bytes.data()), n};
}

std::string refusal(const BootImages& images, formats::Bytes ram, PlatformOptions options = {}) {
    auto memory = make_memory(ram);
    const auto vcpu = vmm::boot::load(memory, images, options);
    REQUIRE_FALSE(vcpu);
    return vcpu.error().text();
}

BootImages images_of(std::span<const std::byte> kernel) {
    return {.kernel = kernel, .initrd = {}, .command_line = "", .kernel_name = "k"};
}

} // namespace

TEST_SUITE("vmm.boot") {
    TEST_CASE("a PVH kernel is entered in protected mode with start info in ebx") {
        auto memory = make_memory(64_MiB);
        const auto kernel = make_elf(pvh_note(0x100020), {{0x100000, some_code, 0x10000}});
        const auto vcpu = vmm::boot::load(
            memory,
            {.kernel = kernel,
             .initrd = some_initrd,
             .command_line = "console=ttyS0",
             .kernel_name = "k"},
            {.vcpus = 2});
        REQUIRE(vcpu);
        CHECK(vcpu->registers.rip == 0x100020);
        CHECK(vcpu->system.cr0 == 0x11);
        CHECK(vcpu->system.efer == 0);
        CHECK(bytes_at(memory, 0x100000, 5000) == some_code);

        const std::uint64_t info = vcpu->registers.rbx;
        CHECK(value_at<std::uint32_t>(memory, info) == 0x336ec578);
        CHECK(value_at<std::uint32_t>(memory, info + 4) == 1);
        CHECK(
            text_at(memory, value_at<std::uint64_t>(memory, info + 24), 14) ==
            std::string("console=ttyS0\0", 14));
        REQUIRE(value_at<std::uint32_t>(memory, info + 12) == 1);
        const auto module = value_at<std::uint64_t>(memory, info + 16);
        const auto initrd = value_at<std::uint64_t>(memory, module);
        CHECK(value_at<std::uint64_t>(memory, module + 8) == some_initrd.size());
        CHECK(initrd % 4096 == 0);
        CHECK(bytes_at(memory, initrd, some_initrd.size()) == some_initrd);
        const auto rsdp = value_at<std::uint64_t>(memory, info + 32);
        CHECK(text_at(memory, rsdp, 8) == "RSD PTR ");
    }

    TEST_CASE("the memory map lists all RAM above 1 MiB and nothing twice") {
        auto memory = make_memory(64_MiB);
        const auto kernel = make_elf(pvh_note(0x100020), {{0x100000, some_code, 0x10000}});
        const auto vcpu = vmm::boot::load(memory, images_of(kernel), {});
        REQUIRE(vcpu);
        const std::uint64_t info = vcpu->registers.rbx;
        const auto map = value_at<std::uint64_t>(memory, info + 40);
        std::uint64_t end_of_last = 0, usable = 0, reserved_at_generation = 0;
        for (std::uint32_t i = 0; i < value_at<std::uint32_t>(memory, info + 48); ++i) {
            const auto first = value_at<std::uint64_t>(memory, map + i * 24);
            const auto size = value_at<std::uint64_t>(memory, map + i * 24 + 8);
            CHECK(first >= end_of_last);
            end_of_last = first + size;
            const auto type = value_at<std::uint32_t>(memory, map + i * 24 + 16);
            if (type == 1) {
                usable += size;
            }
            if (type == 2 && first == vmm::platform_layout::generation_page.value()) {
                reserved_at_generation = size;
            }
        }
        CHECK(usable == (63_MiB).value() + 0x9fc00);
        CHECK(reserved_at_generation == 0x1000);
    }

    TEST_CASE("the generation id is in memory, with either kernel, with and without interrupts") {
        vmm::GenerationId id;
        id.bytes.fill(std::byte{0x5a});
        const auto elf = make_elf(pvh_note(0x100020), {{0x100000, some_code, 0x10000}});
        const auto linux = make_bzimage();
        for (const auto& kernel : {elf, linux}) {
            for (const bool has_interrupts : {true, false}) {
                auto memory = make_memory(64_MiB);
                REQUIRE(vmm::boot::load(
                    memory,
                    images_of(kernel),
                    {.has_interrupt_controller = has_interrupts, .generation_id = id}));
                std::vector<std::byte> page(4096);
                std::ranges::copy(id.bytes, page.begin() + 0x40);
                CHECK(bytes_at(memory, 0xdf000, 4096) == page);
            }
        }
    }

    TEST_CASE("without an interrupt controller there are no ACPI tables") {
        auto memory = make_memory(64_MiB);
        const auto kernel = make_elf(pvh_note(0x100020), {{0x100000, some_code, 0x10000}});
        const auto vcpu =
            vmm::boot::load(memory, images_of(kernel), {.has_interrupt_controller = false});
        REQUIRE(vcpu);
        CHECK(value_at<std::uint64_t>(memory, vcpu->registers.rbx + 32) == 0);
        CHECK(value_at<std::uint64_t>(memory, 0xe0000) == 0);
    }

    TEST_CASE("the reset vector of real mode holds code that resets the machine") {
        auto memory = make_memory(64_MiB);
        const auto kernel = make_bzimage();
        REQUIRE(vmm::boot::load(memory, images_of(kernel), {}));
        // mov dx, 0x602; mov al, 1; out dx, al
        CHECK(text_at(memory, 0xffff0, 6) == "\xba\x02\x06\xb0\x01\xee");
    }

    TEST_CASE("a bzImage is entered in long mode with boot_params in rsi") {
        auto memory = make_memory(64_MiB);
        const auto kernel = make_bzimage();
        const auto vcpu = vmm::boot::load(
            memory,
            {.kernel = kernel, .initrd = some_initrd, .command_line = "quiet", .kernel_name = "k"},
            {.vcpus = 2});
        REQUIRE(vcpu);
        CHECK(vcpu->description == "Linux bzImage 6.1.0-test, boot protocol 2.15");
        CHECK(vcpu->registers.rip == 0x1000200);
        CHECK(vcpu->system.efer == 0x500);
        CHECK(value_at<std::uint8_t>(memory, 0x1000000) == 0xab);
        CHECK(value_at<std::uint8_t>(memory, 0x1000000 + 2047) == 0xab);
        const std::uint64_t params = vcpu->registers.rsi;
        CHECK(value_at<std::uint32_t>(memory, params + 0x202) == 0x53726448);
        CHECK(value_at<std::uint8_t>(memory, params + 0x211) == 0x01);
        CHECK(
            text_at(memory, value_at<std::uint32_t>(memory, params + 0x228), 6) ==
            std::string("quiet\0", 6));
        CHECK(value_at<std::uint32_t>(memory, params + 0x21c) == some_initrd.size());
        const auto initrd = value_at<std::uint32_t>(memory, params + 0x218);
        CHECK(bytes_at(memory, initrd, some_initrd.size()) == some_initrd);
        CHECK(value_at<std::uint64_t>(memory, params + 0x70) == 0xe0000);
        CHECK(value_at<std::uint8_t>(memory, params + 0x1e8) == 6);
    }

    TEST_CASE("the page tables of long mode map the low 4 GiB to themselves") {
        auto memory = make_memory(64_MiB);
        const auto kernel = make_bzimage();
        const auto vcpu = vmm::boot::load(memory, images_of(kernel), {});
        REQUIRE(vcpu);
        constexpr std::uint64_t frame = 0x000ffffffffff000;
        for (const std::uint64_t address : {0x0ULL, 0x1000200ULL, 0xfee00000ULL, 0xffffffffULL}) {
            CAPTURE(address);
            const auto top = value_at<std::uint64_t>(memory, vcpu->system.cr3);
            const auto pointer =
                value_at<std::uint64_t>(memory, (top & frame) + (address >> 30U) * 8);
            const auto directory =
                value_at<std::uint64_t>(memory, (pointer & frame) + ((address >> 21U) & 511U) * 8);
            CHECK((top & 3U) == 3);
            CHECK((pointer & 3U) == 3);
            CHECK((directory & 0x83U) == 0x83);
            CHECK((directory & frame) == (address & ~0x1fffffULL));
        }
        const auto code =
            value_at<std::uint64_t>(memory, vcpu->system.gdt.base + vcpu->system.cs.selector);
        CHECK(code == 0x00af9b000000ffff);
    }

    TEST_CASE("what does not fit is refused with the address and the remedy") {
        const auto high = make_elf(pvh_note(0x8000000), {{0x8000000, some_code, 0x10000}});
        const auto text = refusal(images_of(high), 64_MiB);
        CHECK(text.contains("0x8000000"));
        CHECK(text.contains("--memory"));
        const auto kernel = make_bzimage();
        CHECK(refusal(images_of(kernel), 16_MiB).contains("--memory"));
        const std::vector<std::byte> large(48U << 20U);
        CHECK(
            refusal(
                {.kernel = kernel, .initrd = large, .command_line = "", .kernel_name = "k"}, 64_MiB)
                .contains("the initrd has 49152 KiB"));
    }

    TEST_CASE("a segment over the boot tables is refused") {
        const auto low = make_elf(pvh_note(0x8000), {{0x8000, some_code, 5000}});
        CHECK(refusal(images_of(low), 64_MiB).contains("below 1 MiB"));
    }

    TEST_CASE("an entry outside of the segments is refused") {
        const auto kernel = make_elf(pvh_note(0x300000), {{0x100000, some_code, 5000}});
        CHECK(refusal(images_of(kernel), 64_MiB).contains("none of its segments"));
    }

    TEST_CASE("each thing that is no kernel is refused by name") {
        const auto no_note = make_elf({}, {{0x100000, some_code, 5000}});
        CHECK(refusal(images_of(no_note), 64_MiB).contains("PVH"));
        const std::string cpio = "070701 and so on";
        CHECK(refusal(images_of(std::as_bytes(std::span{cpio})), 64_MiB).contains("cpio"));
        CHECK(refusal(images_of({}), 64_MiB).contains("empty"));
        auto old = make_bzimage();
        formats::store_little<std::uint16_t>(old, 0x206, 0x020b);
        CHECK(refusal(images_of(old), 64_MiB).contains("2.11"));
        auto narrow = make_bzimage();
        formats::store_little<std::uint16_t>(narrow, 0x236, 0);
        CHECK(refusal(images_of(narrow), 64_MiB).contains("32-bit"));
    }

    TEST_CASE("a bzImage cut anywhere is refused") {
        const auto file = make_bzimage();
        for (std::size_t size = 0; size < file.size(); size += 7) {
            CAPTURE(size);
            auto memory = make_memory(64_MiB);
            CHECK_FALSE(vmm::boot::load(memory, images_of(std::span{file}.first(size)), {}));
        }
    }

    TEST_CASE("a command line that the kernel cannot take is refused") {
        const auto kernel = make_bzimage();
        const std::string longest(2047, 'x'), longer(2048, 'x'), broken("a\0b", 3);
        auto memory = make_memory(64_MiB);
        const auto with = [&](std::string_view line) {
            return BootImages{
                .kernel = kernel, .initrd = {}, .command_line = line, .kernel_name = "k"};
        };
        CHECK(vmm::boot::load(memory, with(longest), {}));
        CHECK(refusal(with(longer), 64_MiB).contains("at most 2047"));
        CHECK(refusal(with(broken), 64_MiB).contains("NUL"));
    }
}
