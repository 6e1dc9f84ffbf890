// SPDX-License-Identifier: Apache-2.0
// The conversions between the hypervisor's form of a vCPU's state and the canonical one.
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/events.hpp"
#include "vmm/mshv/lapic.hpp"
#include "vmm/mshv/msrs.hpp"
#include "vmm/mshv/registers.hpp"
#include "vmm/vcpu_state.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using namespace vmm::mshv;
using formats::ErrorCode;
using vmm::PendingEvents;
using vmm::RunState;
using vmm::VcpuState;
namespace names = abi::registers;
namespace interruption = abi::pending_interruption;

constexpr std::uint64_t pending(std::uint64_t type, std::uint64_t vector) {
    return interruption::pending | (type << interruption::type_shift) |
           (vector << interruption::vector_shift);
}

/// native_plain as the hypervisor would tell it: intermediate registers are the registers.
std::uint32_t told_as(std::uint32_t written) {
    switch (written) {
    case names::intermediate_cr0:
        return names::cr0;
    case names::intermediate_cr3:
        return names::cr3;
    case names::intermediate_cr4:
        return names::cr4;
    default:
        return written;
    }
}

vmm::Segment random_segment(std::mt19937_64& random) {
    constexpr std::uint32_t present = 0x80;
    constexpr std::uint32_t unusable = 0x10000;
    const auto bits = static_cast<std::uint32_t>(random()) & 0xf07fU;
    return {
        .base = random(),
        .limit = static_cast<std::uint32_t>(random()),
        .selector = static_cast<std::uint16_t>(random()),
        .attributes = bits | (random() % 2 == 0 ? present : unusable)};
}

VcpuState random_state(std::uint64_t seed) {
    std::mt19937_64 random{seed};
    VcpuState state;
    auto general = general_of(state.registers);
    std::ranges::generate(general, random);
    set_general(state.registers, general);
    state.registers.rip = random();
    state.registers.rflags = random();
    auto& system = state.system;
    for (auto* const segment :
         {&system.cs,
          &system.ds,
          &system.es,
          &system.fs,
          &system.gs,
          &system.ss,
          &system.tr,
          &system.ldt}) {
        *segment = random_segment(random);
    }
    system.gdt = {.base = random(), .limit = static_cast<std::uint16_t>(random())};
    system.idt = {.base = random(), .limit = static_cast<std::uint16_t>(random())};
    for (auto* const control :
         {&system.cr0,
          &system.cr2,
          &system.cr3,
          &system.cr4,
          &system.cr8,
          &system.efer,
          &system.apic_base}) {
        *control = random();
    }
    std::ranges::generate(state.debug.db, random);
    state.debug.dr6 = random();
    state.debug.dr7 = random();
    state.extended_controls = {{.index = 0, .value = random()}};
    return state;
}

} // namespace

TEST_SUITE("vmm.mshv_state") {

    TEST_CASE("registers survive the way to the hypervisor and back") {
        for (std::uint64_t seed = 0; seed < 100; ++seed) {
            const auto state = random_state(seed);
            auto written = native_plain(state);
            const auto debug = native_debug(state.debug);
            written.insert(written.end(), debug.begin(), debug.end());
            std::vector<abi::RegisterValue> told;
            for (const auto name : plain_names()) {
                const auto found = std::ranges::find_if(
                    written, [name](const NamedValue& one) { return told_as(one.name) == name; });
                REQUIRE_MESSAGE(found != written.end(), "register ", name);
                told.push_back(found->value);
            }
            VcpuState back;
            canonical_plain(told, back);
            CHECK(back == state);
        }
    }

    TEST_CASE("control registers are written before general ones, EFER first of all") {
        const auto written = native_plain(random_state(1));
        const auto place = [&](std::uint32_t name) {
            return std::ranges::find(written, name, &NamedValue::name) - written.begin();
        };
        CHECK(place(names::efer) == 0);
        CHECK(place(names::cs) < place(names::intermediate_cr0));
        CHECK(place(names::intermediate_cr0) < place(names::intermediate_cr4));
        CHECK(place(names::intermediate_cr4) < place(names::intermediate_cr3));
        CHECK(place(names::intermediate_cr3) < place(names::rax));
        CHECK(place(names::rflags) < place(names::xfem));
    }

    TEST_CASE("what is being delivered survives the way back") {
        const std::uint64_t error_code =
            interruption::deliver_error_code | (std::uint64_t{0x18} << 32U);
        const auto with_length = [](std::uint64_t value, std::uint64_t length) {
            return value | (length << interruption::instruction_length_shift);
        };
        for (const std::uint64_t word :
             {std::uint64_t{0},
              pending(interruption::type_interrupt, 0x31),
              pending(interruption::type_nmi, 2),
              pending(interruption::type_exception, 13) | error_code,
              pending(interruption::type_exception, 6),
              with_length(pending(interruption::type_software_interrupt, 0x80), 2),
              with_length(pending(interruption::type_software_exception, 3), 1)}) {
            const EventRegisters told{.pending_interruption = word};
            const auto back = native_events(canonical_events(told, true), RunState::runnable);
            REQUIRE(back);
            CHECK(*back == told);
        }
    }

    TEST_CASE("a pending exception keeps error code and parameter") {
        const EventRegisters told{
            .pending_event0 =
                native_exception({.vector = 14, .error_code = 7, .parameter = 0xffff800012345678})};
        const auto events = canonical_events(told, false);
        CHECK(events.exception.pending);
        CHECK_FALSE(events.exception.injected);
        CHECK(events.exception.vector == 14);
        CHECK(events.exception.error_code == 7);
        CHECK(events.exception.payload == 0xffff800012345678);
        CHECK(native_events(events, RunState::runnable).value() == told);
    }

    TEST_CASE("one shadow stands for two, told apart by the interrupt flag") {
        const EventRegisters told{.interrupt_state = 3};
        CHECK(canonical_events(told, true).interrupt.shadow == 2);
        CHECK(canonical_events(told, false).interrupt.shadow == 1);
        CHECK(canonical_events(told, true).nmi.masked);
        CHECK(native_events(canonical_events(told, false), RunState::runnable).value() == told);
    }

    TEST_CASE("run states map to what the VP waits for") {
        const auto there_and_back = [](RunState state) {
            return canonical_run_state(native_events({}, state).value());
        };
        CHECK(there_and_back(RunState::runnable) == RunState::runnable);
        CHECK(there_and_back(RunState::halted) == RunState::halted);
        CHECK(there_and_back(RunState::init_received) == RunState::init_received);
        CHECK(there_and_back(RunState::uninitialized) == RunState::init_received);
    }

    TEST_CASE("events that the hypervisor cannot hold are refused") {
        PendingEvents events;
        events.smm = true;
        CHECK(native_events(events, RunState::runnable).error().code() == ErrorCode::incompatible);
        events.smm = false;
        events.triple_fault = true;
        CHECK(native_events(events, RunState::runnable).error().code() == ErrorCode::incompatible);
        CHECK(native_events({}, RunState::sipi_received).error().code() == ErrorCode::incompatible);
    }

    TEST_CASE("a local APIC survives the way through the canonical page") {
        std::mt19937_64 random{3};
        for (int turn = 0; turn < 50; ++turn) {
            abi::vp_state::Lapic lapic;
            std::vector<std::uint32_t> words(sizeof(lapic) / 4);
            std::ranges::generate(words, [&] { return static_cast<std::uint32_t>(random()); });
            std::memcpy(&lapic, words.data(), sizeof(lapic));
            lapic.id = 3;
            const auto page = canonical_lapic(lapic, 0, 0xfee00900);
            // Kept aside by the hypervisor, and in no page.
            auto current = lapic;
            current.irr[2] = ~lapic.irr[2];
            current.lvt_lint0 = ~lapic.lvt_lint0;
            const auto back = native_lapic(page, current);
            CHECK(std::memcmp(&back, &lapic, sizeof(lapic)) == 0);
        }
    }

    TEST_CASE("the canonical page of a local APIC is the SDM's") {
        abi::vp_state::Lapic lapic;
        lapic.id = 5;
        lapic.version = 0x50014;
        lapic.spurious = 0x1ff;
        lapic.isr[7] = 0x80000000;
        lapic.lvt_timer = 0x200ec;
        lapic.initial_count = 1000;
        const auto word = [](const LapicPage& page, std::size_t offset) {
            std::uint32_t value = 0;
            std::memcpy(&value, &page[offset], sizeof(value));
            return value;
        };
        const auto xapic = canonical_lapic(lapic, 0xe, 0xfee00800);
        CHECK(word(xapic, 0x20) == 0x05000000);
        CHECK(word(xapic, 0x30) == 0x50014);
        CHECK(word(xapic, 0x80) == 0xe0);
        CHECK(word(xapic, 0xf0) == 0x1ff);
        CHECK(word(xapic, 0x170) == 0x80000000);
        CHECK(word(xapic, 0x320) == 0x200ec);
        CHECK(word(xapic, 0x380) == 1000);
        CHECK(word(canonical_lapic(lapic, 0, 0xfee00c00), 0x20) == 5);
        lapic.id = 0x05000000; // the register's own form
        CHECK(word(canonical_lapic(lapic, 0, 0xfee00800), 0x20) == 0x05000000);
    }

    TEST_CASE("local interrupts are wired without being unmasked") {
        abi::vp_state::Lapic lapic;
        lapic.lvt_lint0 = 0x10000;
        lapic.lvt_lint1 = 0x10300;
        wire_local_interrupts(lapic);
        CHECK(lapic.lvt_lint0 == 0x10700);
        CHECK(lapic.lvt_lint1 == 0x10400);
    }

    TEST_CASE("MSRs have the registers that the hypervisor keeps them in") {
        CHECK(register_of_msr(0x175) == names::sysenter_esp); // not in the order of the indices
        CHECK(register_of_msr(0x176) == names::sysenter_eip);
        CHECK(register_of_msr(0x20f) == names::mtrr_physical_mask0 + 7);
        CHECK(register_of_msr(0xc0000102) == names::kernel_gs_base);
        CHECK(register_of_msr(0x3b) == names::tsc_adjust);
        CHECK_FALSE(register_of_msr(0x10)); // the TSC goes its own way
        CHECK_FALSE(register_of_msr(0xc0000080));
    }

    TEST_CASE("synthetic state in use is refused elsewhere, and named") {
        VcpuState state;
        CHECK(vmm::refuse_beyond(state, "KVM"));
        state.hyperv.emplace();
        state.hyperv->lapic.resize(176, std::byte{1});
        state.hyperv->sint.fill(0x10000);
        state.hyperv->timers.resize(200);
        CHECK(vmm::refuse_beyond(state, "KVM"));
        state.hyperv->simp = 0x1001;
        state.hyperv->guest_os_id = 1;
        const auto refused = vmm::refuse_beyond(state, "KVM");
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code() == ErrorCode::incompatible);
        CHECK(
            refused.error().text() ==
            "the guest uses the synthetic interrupt controller, the guest's identity of the "
            "Microsoft hypervisor: KVM has none");
    }
}
