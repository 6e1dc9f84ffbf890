// SPDX-License-Identifier: Apache-2.0
// States as released versions wrote them. The files are kept for ever.
#include "formats/units.hpp"
#include "vmm/saved_state.hpp"

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::vmm;

namespace {

std::vector<std::byte> golden_file(std::string_view name) {
    std::ifstream file{std::filesystem::path{WHERRY_GOLDEN_FILES} / name};
    REQUIRE(file.is_open());
    std::vector<std::byte> bytes;
    for (std::string line; std::getline(file, line);) {
        for (std::size_t at = 0; at + 1 < line.size(); at += 2) {
            unsigned value = 0;
            const auto read = std::from_chars(line.data() + at, line.data() + at + 2, value, 16);
            REQUIRE(read.ptr == line.data() + at + 2);
            bytes.push_back(static_cast<std::byte>(value));
        }
    }
    return bytes;
}

/// Every field of a vCPU of the Microsoft hypervisor with a value of its own, as in the golden
/// file.
VcpuState hyperv_vcpu() {
    const auto filled = [](std::size_t size, unsigned value) {
        return std::vector<std::byte>(size, static_cast<std::byte>(value));
    };
    VcpuState vcpu;
    vcpu.registers.rip = 0xfffff80012345678;
    vcpu.tsc = 987'654'321;
    HyperVState& state = vcpu.hyperv.emplace();
    state.lapic = filled(176, 0x11);
    for (std::size_t i = 0; i < state.sint.size(); ++i) {
        state.sint[i] = 0x10000 | (0x30 + i);
    }
    state.scontrol = 1;
    state.siefp = 0x7001;
    state.simp = 0x8001;
    state.message_page = filled(formats::page_size, 0x22);
    state.event_page = filled(formats::page_size, 0x33);
    state.timers = filled(200, 0x44);
    state.vp_assist_page = 0x9001;
    state.guest_os_id = 0x8100'0006'0c17'0000;
    state.hypercall = 0xa001;
    state.reference_tsc = 0xb001;
    state.pending_interruption = 0x8000'00ec;
    state.internal_activity = 2;
    state.pending_event1 = {0x55, 0x66};
    state.interrupt_vectors = 0x3002;
    return vcpu;
}

} // namespace

TEST_SUITE("vmm.golden_state") {

    TEST_CASE("a state encoded by version 1 still decodes") {
        const auto decoded = decode_machine_state(golden_file("machine_state_v1.hex"));
        REQUIRE_MESSAGE(decoded.has_value(), decoded.error().text());
        REQUIRE(decoded->vcpus.size() == 2);
        const VcpuState& first = decoded->vcpus[0];
        CHECK(first.registers.rax == 0x1111111111111111);
        CHECK(first.registers.rip == 0xffffffff81000000);
        CHECK(
            first.system.cs ==
            Segment{.base = 0, .limit = 0xffffffff, .selector = 0x10, .attributes = 0xa09b});
        CHECK(first.system.idt == DescriptorTable{.base = 0xfffffe0000000000, .limit = 0xfff});
        CHECK(first.system.efer == 0xd01);
        CHECK(first.debug == DebugRegisters{});
        CHECK(first.extended_controls == std::vector<ExtendedControl>{{.index = 0, .value = 7}});
        CHECK(first.msrs == std::vector<Msr>{{.index = 0xc0000082, .value = 0xffffffff82000000}});
        CHECK(first.xsave == std::vector<std::byte>(576, std::byte{0x5a}));
        REQUIRE(first.lapic);
        CHECK((*first.lapic)[0x30] == std::byte{0x14});
        CHECK(first.events.interrupt.injected);
        CHECK(first.events.interrupt.vector == 0xec);
        CHECK(first.events.nmi.masked);
        CHECK(first.tsc == 123'456'789'012);
        CHECK(first.tsc_frequency_khz == 2'500'000);
        CHECK(decoded->vcpus[1].run_state == RunState::halted);
        CHECK_FALSE(decoded->vcpus[1].lapic);
        CHECK(
            decoded->devices ==
            std::vector<DeviceState>{
                {.id = "serial0", .version = 1, .bytes = {std::byte{3}, std::byte{0xff}}}});
        CHECK(decoded->clock.reference_time == std::chrono::seconds{77});
        CHECK(decoded->clock.host_real_time == std::chrono::seconds{1'700'000'000});
        CHECK_FALSE(decoded->generation_id); // nothing may be written to this guest's memory
    }

    TEST_CASE("a state of the Microsoft hypervisor encoded by version 1 still decodes") {
        const auto decoded = decode_machine_state(golden_file("machine_state_v1_hyperv.hex"));
        REQUIRE_MESSAGE(decoded.has_value(), decoded.error().text());
        REQUIRE(decoded->vcpus.size() == 1);
        CHECK(decoded->vcpus[0] == hyperv_vcpu());
    }

} // TEST_SUITE
