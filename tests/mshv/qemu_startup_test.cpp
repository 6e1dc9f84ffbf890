// SPDX-License-Identifier: Apache-2.0
// What QEMU 10.2's accelerator does, call by call, from opening the device to its firmware's first
// output: version 1 of CREATE_PARTITION, and one host range at two guest addresses in turns, since
// older kernels refuse it at both. That QEMU itself is tried in tests/mshv/third_party.
#include "tests/mshv/bed.hpp"

#include <algorithm>
#include <array>
#include <cstring>

using namespace wherry::conformance;
namespace messages = abi::messages;
namespace names = abi::registers;
namespace properties = abi::properties;

namespace {

/// The last page below 4 GiB and the one below 1 MiB.
constexpr std::uint64_t high_firmware = 0xfffff;
constexpr std::uint64_t low_firmware = 0xff;
constexpr std::uint8_t read_only = ioctls::memory_flags::executable;

/// At its begin: mov dx, 0x402; mov al, 'Q'; out dx, al; hlt. At the reset vector: a jump there, by
/// its address below 1 MiB.
void write_firmware(const Mapping& firmware) {
    constexpr std::array<std::uint8_t, 7> speaks = {0xba, 0x02, 0x04, 0xb0, 'Q', 0xee, 0xf4};
    constexpr std::array<std::uint8_t, 5> jumps = {0xea, 0x00, 0xf0, 0x00, 0xf0};
    std::ranges::copy(std::as_bytes(std::span{speaks}), firmware.data());
    std::ranges::copy(std::as_bytes(std::span{jumps}), firmware.data() + 0xff0);
}

void route_no_line(const Descriptor& partition) {
    constexpr std::size_t lines = 24;
    struct {
        ioctls::IrqTableHeader header{.count = lines, .reserved = 0};
        std::array<ioctls::IrqTableEntry, lines> entries{};
    } table;
    for (std::uint32_t gsi = 0; gsi < lines; ++gsi) {
        table.entries[gsi].gsi = gsi;
    }
    CHECK(control(partition, ioctls::set_msi_routing, &table) == "ok");
}

void write_boot_msrs(const Descriptor& vp) {
    constexpr std::uint64_t enabled_write_back = 0x806;
    constexpr std::array zeroed = {
        names::sysenter_cs,
        names::sysenter_esp,
        names::sysenter_eip,
        names::star,
        names::cstar,
        names::lstar,
        names::kernel_gs_base,
        names::sfmask};
    std::array<hypercalls::RegisterAssociation, zeroed.size() + 1> registers;
    for (std::size_t i = 0; i < zeroed.size(); ++i) {
        registers[i] = {.name = zeroed[i], .value = {}};
    }
    registers.back() = {.name = names::mtrr_default_type, .value = {.low = enabled_write_back}};
    const auto written = set_registers(vp, registers);
    CHECK(written.outcome == "ok");
    CHECK(written.reps == registers.size());
}

/// LINT0 takes external interrupts, LINT1 is the NMI.
void wire_local_interrupts(const Descriptor& vp) {
    constexpr std::size_t lint0 = 140;
    constexpr std::size_t lint1 = 144;
    const Mapping page{abi::page_size};
    ioctls::VpState state;
    state.type = abi::vp_state::lapic;
    state.buffer_size = abi::page_size;
    state.buffer = page.address();
    REQUIRE(control(vp, ioctls::get_vp_state, &state) == "ok");
    std::uint32_t value = 0;
    std::memcpy(&value, page.data() + lint0, sizeof(value));
    value |= 0x700;
    std::memcpy(page.data() + lint0, &value, sizeof(value));
    std::memcpy(&value, page.data() + lint1, sizeof(value));
    value = (value & ~0x700U) | 0x400;
    std::memcpy(page.data() + lint1, &value, sizeof(value));
    CHECK(control(vp, ioctls::set_vp_state, &state) == "ok");
}

} // namespace

TEST_SUITE("mshv.qemu_startup") {
    TEST_CASE("QEMU 10.2's way to the first word of its firmware") {
        constexpr std::uint64_t synthetic_features = 0x06400ffb;
        const auto device = open_device();
        REQUIRE(device.outcome == "ok");
        ioctls::CreatePartitionV1 create{.flags = usual_flags(), .isolation = 0};
        const auto made = control_open(device.descriptor, ioctls::create_partition, &create);
        REQUIRE(made.outcome == "ok");
        const Descriptor& partition = made.descriptor;
        CHECK(
            set_property(partition, properties::synthetic_processor_features, synthetic_features)
                .outcome == "ok");
        REQUIRE(control(partition, ioctls::initialize_partition) == "ok");
        if (needs_apic("mshv.qemu_startup: interrupt routes")) {
            route_no_line(partition);
        }
        CHECK(set_property(partition, properties::unimplemented_msr_action, 1).outcome == "ok");
        CHECK(set_property(partition, properties::time_freeze, 1).outcome == "ok");
        CHECK(set_property(partition, properties::time_freeze, 0).outcome == "ok");

        const Mapping ram{16 * abi::page_size};
        const Mapping firmware{abi::page_size};
        write_firmware(firmware);
        REQUIRE(map_memory(partition, ram, 0) == "ok");
        REQUIRE(map_memory(partition, firmware, high_firmware, read_only) == "ok");

        const auto vp = create_vp(partition, 0);
        REQUIRE(vp.outcome == "ok");
        write_boot_msrs(vp.descriptor);
        if (needs_apic("mshv.qemu_startup: local APIC")) {
            wire_local_interrupts(vp.descriptor);
        }

        messages::Message message;
        REQUIRE(control(vp.descriptor, ioctls::run_vp, &message) == "ok");
        CHECK(message.type == messages::unmapped_gpa);
        CHECK(
            messages::payload_as<messages::MemoryIntercept>(message).header.access ==
            messages::intercept_access::execute);
        // The one address gives way to the other, and the VP tries again.
        REQUIRE(
            map_memory(
                partition, firmware, high_firmware, read_only | ioctls::memory_flags::unmap) ==
            "ok");
        REQUIRE(map_memory(partition, firmware, low_firmware, read_only) == "ok");
        REQUIRE(control(vp.descriptor, ioctls::run_vp, &message) == "ok");
        REQUIRE(message.type == messages::io_port);
        const auto spoken = messages::payload_as<messages::IoPortIntercept>(message);
        CHECK(spoken.port == 0x402);
        CHECK((spoken.rax & 0xffU) == 'Q');
        CHECK(
            set_register(vp.descriptor, names::rip, {.low = spoken.header.rip + 1, .high = 0})
                .outcome == "ok");
    }
}
