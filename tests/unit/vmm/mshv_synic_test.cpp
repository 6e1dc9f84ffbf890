// SPDX-License-Identifier: Apache-2.0
// A guest that lives on Hyper-V's interrupt controller and timers changes partitions.
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/mshv/abi/vp_state.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

using namespace wherry;
using tests::must;
using tests::Program;
using tests::TinyMachine;
using vmm::HypervisorChoice;

constexpr formats::Gpa message_count{0x100000}, hypercall_result{0x100004};
constexpr std::uint16_t progress_port = 0x10;
constexpr std::uint64_t period = 50'000; // 5 ms

/// 32-bit flat code.
struct Code {
    Program bytes;
    Code& add(std::initializer_list<std::uint8_t> more) {
        bytes.insert(bytes.end(), more);
        return *this;
    }
    Code& word(std::uint32_t value) {
        for (unsigned i = 0; i < 4; ++i) {
            bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
        }
        return *this;
    }
    Code& write(std::uint32_t msr, std::uint32_t value) {
        add({0xb9}).word(msr);
        add({0xb8}).word(value);
        return add({0x31, 0xd2, 0x0f, 0x30}); // xor edx, edx; wrmsr
    }
};

/// Makes itself known, tries a hypercall, arms a periodic timer, and counts its messages: polls
/// SINT 2's slot at 0x6200, takes the message out, says EOM, tells the count through a port.
Program counting_timer_messages() {
    Code code;
    code.write(0x40000000, 0x1234)
        .write(0x40000001, 0x5001)
        .add({0xb8, 0x00, 0x50, 0x00, 0x00, 0xff, 0xd0, 0xa3}) // mov eax, 0x5000; call eax
        .word(static_cast<std::uint32_t>(hypercall_result.value()));
    code.write(0x40000080, 1)
        .write(0x40000083, 0x6001)
        .write(0x40000082, 0x7001)
        .write(0x40000092, 0x50040)
        .write(0x400000b1, period)
        .write(0x400000b0, 0x20003);
    const std::size_t poll = code.bytes.size();
    code.add({0x83, 0x3d}).word(0x6200).add({0x00, 0x74, 0xf7});
    code.add({0xff, 0x05}).word(static_cast<std::uint32_t>(message_count.value()));
    code.add({0xc7, 0x05}).word(0x6200).word(0);
    code.write(0x40000084, 0);
    code.add({0xa1}).word(static_cast<std::uint32_t>(message_count.value()));
    code.add({0xe7, progress_port});
    const std::size_t back = poll - (code.bytes.size() + 2);
    return code.add({0xeb, static_cast<std::uint8_t>(back)}).bytes;
}

/// Until the guest has counted this far.
void run_to(TinyMachine& machine, std::uint32_t count) {
    tests::ScriptedExits exits;
    exits.on_write = [&](std::uint64_t at, std::uint64_t value) {
        if (at == progress_port && value >= count) {
            machine.vcpu().kick();
        }
    };
    CHECK(must(machine.vcpu().run(exits)) == vmm::ExitReason::kicked);
}

bool has_timers(const vmm::VcpuState& state) {
    return state.hyperv &&
           state.hyperv->timers.size() == sizeof(vmm::mshv::abi::vp_state::SyntheticTimers);
}

void timer_messages_go_on(HypervisorChoice choice, const char* name) {
    if (!tests::has_backend(choice, name)) {
        return;
    }
    TinyMachine first{choice, {}};
    auto clock = must(first.partition->save_clock());
    auto state = must(first.vcpu().save());
    if (!has_timers(state)) {
        fmt::print("SKIPPED: {}: no synthetic timers are offered here\n", name);
        return;
    }
    tests::load_program(first.memory, counting_timer_messages());
    tests::aim(state);
    must(first.partition->restore_clock(clock));
    must(first.vcpu().restore(state));
    run_to(first, 3);
    CHECK(first.word_at(message_count) == 3);
    CHECK(first.word_at(hypercall_result) == 2); // invalid hypercall code

    clock = must(first.partition->save_clock());
    const auto saved = must(first.vcpu().save());
    CHECK(saved.hyperv->guest_os_id == 0x1234);
    CHECK(saved.hyperv->hypercall == 0x5001);
    CHECK(saved.hyperv->simp == 0x6001);
    CHECK(saved.hyperv->sint[2] == 0x50040);
    vmm::mshv::abi::vp_state::SyntheticTimers timers;
    std::memcpy(&timers, saved.hyperv->timers.data(), sizeof(timers));
    CHECK(timers.timers[0].config == 0x20003);
    CHECK(timers.timers[0].count == period);
    CHECK(timers.timers[0].adjustment != 0);

    TinyMachine second{choice, {}};
    tests::copy_memory(first.memory, second.memory);
    must(second.partition->restore_clock(clock));
    must(second.vcpu().restore(saved));
    must(second.partition->save_clock());
    const auto again = must(second.vcpu().save());
    CHECK(again.registers == saved.registers);
    CHECK(again.hyperv->message_page == saved.hyperv->message_page);
    CHECK(again.hyperv->event_page == saved.hyperv->event_page);
    CHECK(again.hyperv->timers == saved.hyperv->timers);
    CHECK(again.hyperv == saved.hyperv);
    run_to(second, 6);
    CHECK(second.word_at(message_count) == 6);
    CHECK(first.word_at(message_count) == 3);
}

} // namespace

TEST_SUITE("vmm.mshv_synic") {
    TEST_CASE("a guest that counts its timer's messages goes on counting on mshv") {
        timer_messages_go_on(HypervisorChoice::mshv, "timer messages on mshv");
    }
    TEST_CASE(
        "a guest that counts its timer's messages goes on counting on each simulated kernel") {
        timer_messages_go_on(
            tests::hypervisor("mshvsim:6.18:kvm"), "timer messages on mshvsim:6.18");
        timer_messages_go_on(tests::hypervisor("mshvsim:7.2:kvm"), "timer messages on mshvsim:7.2");
        timer_messages_go_on(tests::hypervisor("mshvsim:7.3:kvm"), "timer messages on mshvsim:7.3");
    }
}
