// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/acpi.hpp"

#include "formats/error.hpp"
#include "formats/little_endian.hpp"
#include "vmm/boot/aml.hpp"
#include "vmm/little_endian.hpp"
#include "vmm/platform_layout.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace wherry::vmm::boot {
namespace {

using Table = std::vector<std::byte>;
using formats::Gpa;

constexpr std::string_view oem_id = "WHERRY";
constexpr std::size_t header_size = 36;
constexpr std::size_t checksum_at = 9;
constexpr std::size_t rsdp_size = 36;

void put_text(std::span<std::byte> into, std::size_t at, std::string_view text) {
    const auto bytes = std::as_bytes(std::span{text});
    std::ranges::copy(bytes, into.subspan(at, bytes.size()).begin());
}

/// What makes the sum of `bytes`, in which the checksum is still 0, zero.
std::byte checksum_of(std::span<const std::byte> bytes) {
    std::uint8_t sum = 0;
    for (const std::byte byte : bytes) {
        sum = static_cast<std::uint8_t>(sum + std::to_integer<std::uint8_t>(byte));
    }
    return static_cast<std::byte>(-sum);
}

/// A table with its header (5.2.6), the checksum still to be made by `sealed`.
Table new_table(std::string_view signature, std::uint8_t revision, std::size_t size = header_size) {
    Table table(size);
    put_text(table, 0, signature);
    formats::store_little(table, 8, revision);
    put_text(table, 10, oem_id);
    put_text(table, 16, "WHERRYVM");
    formats::store_little<std::uint32_t>(table, 24, 1);
    put_text(table, 28, "WHRY");
    formats::store_little<std::uint32_t>(table, 32, 1);
    return table;
}

Table sealed(Table table) {
    formats::store_little(table, 4, static_cast<std::uint32_t>(table.size()));
    table[checksum_at] = checksum_of(table);
    return table;
}

/// Generic Address Structure (5.2.3.2) of a one-byte I/O port.
void put_port(Table& table, std::size_t at, std::uint16_t port) {
    formats::store_little<std::uint8_t>(table, at, 1);     // system I/O
    formats::store_little<std::uint8_t>(table, at + 1, 8); // bits wide
    formats::store_little<std::uint8_t>(table, at + 2, 0);
    formats::store_little<std::uint8_t>(table, at + 3, 1); // byte access
    formats::store_little<std::uint64_t>(table, at + 4, port);
}

/// FADT (5.2.9).
Table fixed_description(Gpa dsdt) {
    constexpr std::uint16_t no_vga = 1U << 2U, no_cmos_clock = 1U << 5U;
    constexpr std::uint32_t wbinvd = 1U << 0U;
    // Set means "is not a fixed-hardware button".
    constexpr std::uint32_t no_power_button = 1U << 4U, no_sleep_button = 1U << 5U;
    constexpr std::uint32_t has_reset_register = 1U << 10U, hardware_reduced = 1U << 20U;
    Table table = new_table("FACP", 6, 276);
    formats::store_little<std::uint16_t>(table, 109, no_vga | no_cmos_clock);
    formats::store_little<std::uint32_t>(
        table,
        112,
        wbinvd | no_power_button | no_sleep_button | has_reset_register | hardware_reduced);
    put_port(table, 116, platform_layout::reset_port);
    formats::store_little(table, 128, platform_layout::reset_value);
    formats::store_little<std::uint8_t>(table, 131, 4); // minor revision
    formats::store_little(table, 140, dsdt.value());
    put_port(table, 244, platform_layout::sleep_control_port);
    put_port(table, 256, platform_layout::sleep_status_port);
    put_text(table, 268, oem_id); // hypervisor vendor
    return sealed(std::move(table));
}

/// MADT (5.2.12).
Table interrupt_controllers(std::uint32_t vcpus) {
    Table table = new_table("APIC", 5);
    append_le(table, static_cast<std::uint32_t>(platform_layout::local_apic.value()));
    append_le(table, std::uint32_t{0}); // no 8259
    for (std::uint32_t index = 0; index < vcpus; ++index) {
        append_le(table, std::uint16_t{0x0800}); // processor local APIC, 8 bytes
        append_le(table, static_cast<std::uint8_t>(index));
        append_le(table, static_cast<std::uint8_t>(index));
        append_le(table, std::uint32_t{1}); // enabled
    }
    append_le(table, std::uint16_t{0x0c01}); // I/O APIC, 12 bytes
    append_le(table, platform_layout::io_apic_id);
    append_le(table, std::uint8_t{0});
    append_le(table, static_cast<std::uint32_t>(platform_layout::io_apic.value()));
    append_le(table, std::uint32_t{0});      // its pins are interrupts 0 and up
    append_le(table, std::uint16_t{0x0604}); // local APIC NMI, 6 bytes
    append_le(table, std::uint8_t{0xff});    // of all processors
    append_le(table, std::uint16_t{0});
    append_le(table, std::uint8_t{1}); // LINT1
    return sealed(std::move(table));
}

aml::Term serial_device() {
    using namespace aml;
    const std::array resources{
        io_ports(platform_layout::serial_port, 8), edge_interrupt(platform_layout::serial_pin)};
    const std::array com1{
        name("_HID", eisa_id("PNP0501")),
        name("_UID", integer(0)),
        name("_STA", integer(0xf)),
        name("_CRS", resource_template(resources))};
    return device("COM1", com1);
}

/// The VM generation id. Guests know it by its compatible id.
aml::Term generation_device() {
    using namespace aml;
    constexpr std::uint64_t at = platform_layout::generation_id.value();
    const std::array halves{
        integer(static_cast<std::uint32_t>(at)), integer(static_cast<std::uint32_t>(at >> 32U))};
    const std::array inside{
        name("_HID", string("WHRY0001")),
        name("_CID", string("VM_Gen_Counter")),
        name("_DDN", string("VM_Gen_Counter")),
        name("ADDR", package(halves))};
    return device("VGEN", inside);
}

/// Generic event device (5.6.9): hardware-reduced ACPI has no other way to notify. Its one
/// interrupt says that the generation id has changed.
aml::Term event_device() {
    using namespace aml;
    constexpr std::uint8_t has_changed = 0x80;
    const std::array resources{edge_interrupt(platform_layout::event_pin)};
    const std::array on_event{notify("VGEN", has_changed)};
    const std::array inside{
        name("_HID", string("ACPI0013")),
        name("_UID", integer(0)),
        name("_CRS", resource_template(resources)),
        method("_EVT", 1, on_event)};
    return device("GED0", inside);
}

/// DSDT: \_S5, COM1 and the VM generation id.
Table devices() {
    using namespace aml;
    const std::array inside{serial_device(), generation_device(), event_device()};
    const std::array sleep_types{
        integer(platform_layout::soft_off_type), integer(0), integer(0), integer(0)};

    Table table = new_table("DSDT", 2);
    for (const Term& term : {name("_S5_", package(sleep_types)), scope("_SB_", inside)}) {
        table.insert(table.end(), term.code.begin(), term.code.end());
    }
    return sealed(std::move(table));
}

/// RSDP (5.2.5.3).
Table root_pointer(Gpa xsdt) {
    constexpr std::size_t first_part = 20;
    Table pointer(rsdp_size);
    put_text(pointer, 0, "RSD PTR ");
    put_text(pointer, 9, oem_id);
    formats::store_little<std::uint8_t>(pointer, 15, 2);
    formats::store_little<std::uint32_t>(pointer, 20, rsdp_size);
    formats::store_little(pointer, 24, xsdt.value());
    pointer[8] = checksum_of(std::span{pointer}.first(first_part));
    pointer[32] = checksum_of(pointer);
    return pointer;
}

} // namespace

std::vector<std::byte> acpi_tables(std::uint32_t vcpus, Gpa at) {
    formats::invariant(
        vcpus >= 1 && vcpus <= platform_layout::max_vcpus, "the ACPI tables list 1 to 254 vCPUs");
    std::vector<std::byte> image(rsdp_size);
    const auto place = [&](const Table& table) {
        image.resize((image.size() + 15) / 16 * 16);
        const Gpa where = at + formats::Bytes{image.size()};
        image.insert(image.end(), table.begin(), table.end());
        return where;
    };
    const Gpa dsdt = place(devices());
    const Gpa fadt = place(fixed_description(dsdt));
    const Gpa madt = place(interrupt_controllers(vcpus));
    Table xsdt = new_table("XSDT", 1);
    append_le(xsdt, fadt.value());
    append_le(xsdt, madt.value());
    std::ranges::copy(root_pointer(place(sealed(std::move(xsdt)))), image.begin());
    return image;
}

} // namespace wherry::vmm::boot
