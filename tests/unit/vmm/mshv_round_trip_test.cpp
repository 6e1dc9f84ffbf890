// SPDX-License-Identifier: Apache-2.0
// Saved, restored into a fresh partition and saved again, a state is the same in every part.
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/mshv/abi/vp_state.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <string_view>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

using namespace wherry;
using tests::must;
using tests::TinyMachine;
using vmm::Msr;
using vmm::VcpuState;

constexpr std::size_t xmm0_at = 160;
constexpr std::size_t xmm_size = 256;

void set_msr(VcpuState& state, std::uint32_t index, std::uint64_t value) {
    const auto msr = std::ranges::find(state.msrs, index, &Msr::index);
    if (msr != state.msrs.end()) {
        msr->value = value;
    }
}

/// A canonical address.
std::uint64_t address(std::mt19937_64& random) {
    return random() & 0x7fffffffffffU;
}

/// One that waits to be started by its count, and one that has a message to deliver.
void vary_timers(vmm::HyperVState& state, std::mt19937_64& random) {
    namespace config = vmm::mshv::abi::vp_state::synthetic_timer_config;
    vmm::mshv::abi::vp_state::SyntheticTimers timers;
    if (state.timers.size() != sizeof(timers)) {
        return; // this host offers none
    }
    constexpr unsigned sint_shift = 16;
    const auto sint = [&random] {
        return (1 + random() % 15) << sint_shift;
    };
    timers.timers[1].config = config::auto_enable | sint();
    timers.timers[3].config = config::enable | config::periodic | sint();
    timers.timers[3].flags = 1;
    timers.timers[3].count = 100'000 + random() % 100'000;
    timers.timers[3].adjustment = random() & 0xffffffffU;
    timers.timers[3].undelivered_expiration_time = random() & 0xffffffU;
    std::memcpy(state.timers.data(), &timers, sizeof(timers));
}

void vary_synthetic(vmm::HyperVState& state, std::mt19937_64& random) {
    if (state.sint[0] == 0) {
        return; // this host offers no synthetic interrupt controller
    }
    constexpr std::uint64_t enabled = 1;
    constexpr std::uint64_t masked = 1U << 16U;
    for (auto& sint : state.sint) {
        sint = (16 + random() % 240) | (random() % 2 == 0 ? masked : 0);
    }
    state.scontrol = enabled;
    state.simp = 0x5000 | enabled;
    state.siefp = 0x6000 | enabled;
    state.message_page.resize(4096);
    state.event_page.resize(4096);
    for (auto* const page : {&state.message_page, &state.event_page}) {
        std::ranges::generate(*page, [&] { return static_cast<std::byte>(random()); });
    }
    vary_timers(state, random);
}

/// Valid values that differ from those of a fresh vCPU, for 32-bit protected mode.
void vary(VcpuState& state, std::mt19937_64& random) {
    auto& r = state.registers;
    for (auto* const value : {&r.rax, &r.rbx, &r.rcx, &r.rdx, &r.rsi, &r.rdi, &r.rsp, &r.rbp}) {
        *value = random() & 0xffffffffU;
    }
    r.rip = random() & 0xffffffffU;
    r.rflags = 2 | (random() & 0x8d5U);
    state.system.cr2 = random() & 0xffffffffU;
    state.system.cr3 = random() & 0xfffff000U;
    state.system.gdt = {.base = random() & 0xffffffffU, .limit = 0xff};
    state.system.idt = {.base = random() & 0xffffffffU, .limit = 0x7ff};
    for (auto& breakpoint : state.debug.db) {
        breakpoint = random() & 0xffffffffU;
    }
    for (std::size_t at = xmm0_at; at < xmm0_at + xmm_size; ++at) {
        state.xsave[at] = static_cast<std::byte>(random());
    }
    set_msr(state, 0x174, random() & 0xffffU);
    set_msr(state, 0x175, random() & 0xffffffffU);
    set_msr(state, 0x176, random() & 0xffffffffU);
    set_msr(state, 0xc0000081, random());
    set_msr(state, 0xc0000082, address(random));
    set_msr(state, 0xc0000083, address(random));
    set_msr(state, 0xc0000084, random() & 0xffffffffU);
    set_msr(state, 0xc0000102, address(random));
    vary_synthetic(*state.hyperv, random);
}

std::string differing_part(const VcpuState& one, const VcpuState& other) {
    const auto& a = *one.hyperv;
    const auto& b = *other.hyperv;
    std::string names;
    const auto compare = [&names](bool is_equal, const char* name) {
        names += is_equal ? "" : fmt::format("{} ", name);
    };
    compare(one.registers == other.registers, "registers");
    compare(one.system == other.system, "system");
    compare(one.debug == other.debug, "debug");
    compare(one.extended_controls == other.extended_controls, "extended_controls");
    compare(one.xsave == other.xsave, "xsave");
    for (const auto& msr : one.msrs) {
        const auto found = std::ranges::find(other.msrs, msr.index, &Msr::index);
        compare(
            found != other.msrs.end() && *found == msr, fmt::format("{:#x}", msr.index).c_str());
    }
    compare(one.msrs.size() == other.msrs.size(), "MSRs");
    compare(one.lapic == other.lapic, "lapic");
    compare(one.events == other.events, "events");
    compare(one.run_state == other.run_state, "run_state");
    compare(a.lapic == b.lapic, "hyperv.lapic");
    compare(a.sint == b.sint, "SINTs");
    compare(a.scontrol == b.scontrol && a.simp == b.simp && a.siefp == b.siefp, "SynIC");
    compare(a.message_page == b.message_page, "message page");
    compare(a.event_page == b.event_page, "event page");
    compare(a.timers == b.timers, "timers");
    compare(a == b, "hyperv");
    return names;
}

void survives(std::string_view name) {
    const auto choice = tests::hypervisor(name);
    if (!tests::has_backend(choice, fmt::format("round trip on {}", name))) {
        return;
    }
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        std::mt19937_64 random{seed};
        TinyMachine first{choice, tests::count_in_memory};
        auto clock = must(first.partition->save_clock());
        auto wanted = must(first.vcpu().save());
        vary(wanted, random);
        must(first.partition->restore_clock(clock));
        must(first.vcpu().restore(wanted));
        clock = must(first.partition->save_clock());
        const auto saved = must(first.vcpu().save());
        CHECK_MESSAGE(differing_part(wanted, saved) == "", "seed ", seed);

        TinyMachine second{choice, {}};
        must(second.partition->restore_clock(clock));
        must(second.vcpu().restore(saved));
        must(second.partition->save_clock());
        CHECK_MESSAGE(
            differing_part(saved, must(second.vcpu().save())) == "", "second, seed ", seed);
    }
}

} // namespace

TEST_SUITE("vmm.mshv_round_trip") {
    TEST_CASE("every part of a state survives on mshv") {
        survives("mshv");
    }
    TEST_CASE("every part of a state survives on each simulated kernel") {
        survives("mshvsim:6.18:kvm");
        survives("mshvsim:7.2:kvm");
        survives("mshvsim:7.3:kvm");
    }
    TEST_CASE("a state that the soft engine could not run is refused before it runs") {
        const auto choice = tests::hypervisor("mshvsim:7.2:soft");
        if (!tests::has_backend(choice, "refusals of mshvsim:7.2:soft")) {
            return;
        }
        using Change = void (*)(VcpuState&);
        for (const Change change : std::initializer_list<Change>{
                 [](VcpuState& state) { state.system.cs.attributes = 0x9b; }, // 16-bit code
                 [](VcpuState& state) { state.debug.dr7 |= 1U; },
                 [](VcpuState& state) { state.events.nmi.masked = true; },
                 [](VcpuState& state) {
                     state.events.interrupt.injected = true;
                     state.events.interrupt.vector = 0x30;
                 },
                 [](VcpuState& state) {
                     state.run_state = vmm::RunState::uninitialized;
                 }}) {
            TinyMachine machine{choice, tests::count_in_memory};
            auto state = must(machine.vcpu().save());
            must(machine.vcpu().restore(state));
            change(state);
            CHECK_FALSE(machine.vcpu().restore(state));
        }
    }
}
