// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/acpi.hpp"

#include "vmm/boot/aml.hpp"
#include "vmm/little_endian.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>

#include <doctest/doctest.h>

using namespace wherry;
using vmm::load_le;

namespace {

constexpr formats::Gpa base{0xe0000};
using Bytes = std::vector<std::byte>;

bool sums_to_zero(std::span<const std::byte> bytes) {
    const auto add = [](unsigned sum, std::byte byte) {
        return sum + std::to_integer<unsigned>(byte);
    };
    return std::accumulate(bytes.begin(), bytes.end(), 0U, add) % 256 == 0;
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The table at a physical address, whole, with its checksum verified.
Bytes table_at(const Bytes& image, std::uint64_t address) {
    const std::uint64_t offset = address - base.value();
    const auto length = load_le<std::uint32_t>(image, offset + 4);
    REQUIRE(length);
    REQUIRE(offset + *length <= image.size());
    const auto from = image.begin() + static_cast<std::ptrdiff_t>(offset);
    Bytes table(from, from + *length);
    CHECK(sums_to_zero(table));
    return table;
}

/// The table that the XSDT lists under `signature`.
Bytes listed(const Bytes& image, std::string_view signature) {
    const Bytes xsdt = table_at(image, load_le<std::uint64_t>(image, 24).value());
    CHECK(text_of(std::span{xsdt}.first(4)) == "XSDT");
    for (std::uint64_t at = 36; at < xsdt.size(); at += 8) {
        Bytes table = table_at(image, load_le<std::uint64_t>(xsdt, at).value());
        if (text_of(std::span{table}.first(4)) == signature) {
            return table;
        }
    }
    FAIL("not in the XSDT");
    return {};
}

Bytes bytes_of(std::initializer_list<unsigned> values) {
    Bytes bytes;
    for (const unsigned value : values) {
        bytes.push_back(static_cast<std::byte>(value));
    }
    return bytes;
}

} // namespace

TEST_SUITE("vmm.acpi") {
    TEST_CASE("the root pointer has both checksums") {
        const auto image = vmm::boot::acpi_tables(2, base);
        CHECK(text_of(std::span{image}.first(8)) == "RSD PTR ");
        CHECK(sums_to_zero(std::span{image}.first(20)));
        CHECK(sums_to_zero(std::span{image}.first(36)));
        CHECK(image.size() < 0x20000);
    }

    TEST_CASE("the FADT says hardware reduced and has reset and sleep registers") {
        const auto fadt = listed(vmm::boot::acpi_tables(2, base), "FACP");
        REQUIRE(fadt.size() == 276);
        CHECK(load_le<std::uint32_t>(fadt, 112) == 0x00100431);
        CHECK(load_le<std::uint16_t>(fadt, 109) == 0x0024);
        CHECK(load_le<std::uint64_t>(fadt, 120) == 0x602);
        CHECK(load_le<std::uint64_t>(fadt, 248) == 0x600);
        CHECK(load_le<std::uint64_t>(fadt, 260) == 0x601);
    }

    TEST_CASE("the MADT lists each vCPU once, and the IOAPIC") {
        const auto madt = listed(vmm::boot::acpi_tables(4, base), "APIC");
        std::vector<unsigned> apic_ids;
        std::vector<std::uint32_t> io_apics;
        std::uint64_t at = 44;
        while (at < madt.size()) {
            const auto type = load_le<std::uint8_t>(madt, at).value();
            const auto length = load_le<std::uint8_t>(madt, at + 1).value();
            REQUIRE(length >= 2);
            if (type == 0) {
                apic_ids.push_back(load_le<std::uint8_t>(madt, at + 3).value());
            } else if (type == 1) {
                io_apics.push_back(load_le<std::uint32_t>(madt, at + 4).value());
            }
            at += length;
        }
        CHECK(at == madt.size());
        CHECK(apic_ids == std::vector<unsigned>{0, 1, 2, 3});
        CHECK(io_apics == std::vector<std::uint32_t>{0xfec00000});
    }

    TEST_CASE("the DSDT is byte for byte what an ACPI compiler makes of its source") {
        // iasl 20200925, from: Name (_S5, Package () {5, 0, 0, 0}) Scope (\_SB) { Device (COM1) {
        // Name (_HID, EisaId ("PNP0501")) Name (_UID, 0) Name (_STA, 0xf) Name (_CRS,
        // ResourceTemplate () { IO (Decode16, 0x3f8, 0x3f8, 1, 8) Interrupt (ResourceConsumer,
        // Edge, ActiveHigh, Exclusive) {4} }) } Device (VGEN) { Name (_HID, "WHRY0001")
        // Name (_CID, "VM_Gen_Counter") Name (_DDN, "VM_Gen_Counter")
        // Name (ADDR, Package () {0xdf040, 0}) } Device (GED0) { Name (_HID, "ACPI0013")
        // Name (_UID, 0) Name (_CRS, ResourceTemplate () { Interrupt (ResourceConsumer, Edge,
        // ActiveHigh, Exclusive) {9} }) Method (_EVT, 1, Serialized) {
        // Notify (\_SB.VGEN, 0x80) } } }
        const Bytes compiled = bytes_of(
            {0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x07, 0x04, 0x0a, 0x05, 0x00, 0x00, 0x00, 0x10,
             0x4d, 0x0c, 0x5f, 0x53, 0x42, 0x5f, 0x5b, 0x82, 0x38, 0x43, 0x4f, 0x4d, 0x31, 0x08,
             0x5f, 0x48, 0x49, 0x44, 0x0c, 0x41, 0xd0, 0x05, 0x01, 0x08, 0x5f, 0x55, 0x49, 0x44,
             0x00, 0x08, 0x5f, 0x53, 0x54, 0x41, 0x0a, 0x0f, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11,
             0x16, 0x0a, 0x13, 0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x89, 0x06, 0x00,
             0x03, 0x01, 0x04, 0x00, 0x00, 0x00, 0x79, 0x00, 0x5b, 0x82, 0x4d, 0x04, 0x56, 0x47,
             0x45, 0x4e, 0x08, 0x5f, 0x48, 0x49, 0x44, 0x0d, 0x57, 0x48, 0x52, 0x59, 0x30, 0x30,
             0x30, 0x31, 0x00, 0x08, 0x5f, 0x43, 0x49, 0x44, 0x0d, 0x56, 0x4d, 0x5f, 0x47, 0x65,
             0x6e, 0x5f, 0x43, 0x6f, 0x75, 0x6e, 0x74, 0x65, 0x72, 0x00, 0x08, 0x5f, 0x44, 0x44,
             0x4e, 0x0d, 0x56, 0x4d, 0x5f, 0x47, 0x65, 0x6e, 0x5f, 0x43, 0x6f, 0x75, 0x6e, 0x74,
             0x65, 0x72, 0x00, 0x08, 0x41, 0x44, 0x44, 0x52, 0x12, 0x08, 0x02, 0x0c, 0x40, 0xf0,
             0x0d, 0x00, 0x00, 0x5b, 0x82, 0x3c, 0x47, 0x45, 0x44, 0x30, 0x08, 0x5f, 0x48, 0x49,
             0x44, 0x0d, 0x41, 0x43, 0x50, 0x49, 0x30, 0x30, 0x31, 0x33, 0x00, 0x08, 0x5f, 0x55,
             0x49, 0x44, 0x00, 0x08, 0x5f, 0x43, 0x52, 0x53, 0x11, 0x0e, 0x0a, 0x0b, 0x89, 0x06,
             0x00, 0x03, 0x01, 0x09, 0x00, 0x00, 0x00, 0x79, 0x00, 0x14, 0x0d, 0x5f, 0x45, 0x56,
             0x54, 0x09, 0x86, 0x56, 0x47, 0x45, 0x4e, 0x0a, 0x80});
        const auto image = vmm::boot::acpi_tables(1, base);
        const auto fadt = listed(image, "FACP");
        const auto dsdt = table_at(image, load_le<std::uint64_t>(fadt, 140).value());
        CHECK(text_of(std::span{dsdt}.first(4)) == "DSDT");
        CHECK(Bytes(dsdt.begin() + 36, dsdt.end()) == compiled);
    }

    TEST_CASE("an AML package length counts itself at each of its widths") {
        using namespace vmm::boot::aml;
        const auto scope_with = [](std::size_t bytes) {
            const std::array inside{Term{Bytes(bytes, std::byte{0xa3})}}; // Noop
            return scope("_SB_", inside).code;
        };
        // Content is the four characters of the name and the Noops.
        CHECK(scope_with(58)[1] == std::byte{63});
        const auto two = scope_with(59);
        CHECK(two[1] == std::byte{0x41});
        CHECK(two[2] == std::byte{0x04}); // 0x041 = 65 = 63 + 2
        CHECK(two.size() == 1 + 65);
        const auto widest_two = scope_with(4095 - 2 - 4);
        CHECK(widest_two[1] == std::byte{0x4f});
        CHECK(widest_two[2] == std::byte{0xff});
        const auto three = scope_with(4096 - 2 - 4);
        CHECK(three[1] == std::byte{0x81}); // 0x01001 = 4097 = 4094 + 3
        CHECK(three[2] == std::byte{0x00});
        CHECK(three[3] == std::byte{0x01});
    }
}
