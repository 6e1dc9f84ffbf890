// SPDX-License-Identifier: Apache-2.0
// The state of a guest with the portable CPU profile, on one backend and on the other.
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/cpu_profile.hpp"
#include "vmm/machine.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

using namespace wherry;
using tests::must;
using vmm::CpuProfile;
using vmm::HypervisorChoice;
using vmm::Machine;
using vmm::MachineConfig;

constexpr formats::Bytes memory{std::uint64_t{16} << 20U};

MachineConfig portable_config(HypervisorChoice choice) {
    return {
        .memory = memory, .vcpus = 2, .cpuid = must(vmm::cpuid_for(CpuProfile::portable, choice))};
}

std::unique_ptr<Machine> machine_on(HypervisorChoice choice, const MachineConfig& config) {
    return must(Machine::create(config, {.hypervisor = choice, .serial = "none"}));
}

/// Those of KVM's own MSRs that say something, in hexadecimal.
std::string kvm_msrs(const vmm::VcpuState& state) {
    std::string names;
    for (const auto& msr : state.msrs) {
        const bool is_of_kvm = msr.index == 0x11 || msr.index == 0x12 ||
                               (msr.index >= 0x4b564d00 && msr.index < 0x4b564e00);
        if (is_of_kvm && msr.value != 0) {
            names += fmt::format("{:#x} = {:#x} ", msr.index, msr.value);
        }
    }
    return names;
}

} // namespace

TEST_SUITE("vmm.portable_state") {
    TEST_CASE("a portable guest has no state that belongs to one kind of hypervisor") {
        for (const char* const name : {"kvm", "mshvsim:6.18", "mshvsim:7.2", "mshvsim:7.3"}) {
            const auto choice = tests::hypervisor(name);
            if (!tests::has_backend(choice, fmt::format("portable state on {}", name))) {
                continue;
            }
            const auto state = must(machine_on(choice, portable_config(choice))->save());
            for (const auto& vcpu : state.vcpus) {
                CHECK_MESSAGE(!vcpu.hyperv.has_value(), name);
                CHECK_MESSAGE(kvm_msrs(vcpu) == "", name);
                CHECK_MESSAGE(vcpu.lapic.has_value(), name);
            }
        }
    }

    TEST_CASE("a guest that sees a hypervisor has its state") {
        const auto choice = tests::hypervisor("mshvsim:7.2");
        if (tests::has_backend(choice, "host profile on mshvsim")) {
            const auto state = must(machine_on(choice, {.memory = memory, .vcpus = 1})->save());
            CHECK(state.vcpus[0].hyperv.has_value());
        }
    }

    TEST_CASE("state goes around: kvm, the simulator, kvm, and each takes it as it is") {
        const auto over = tests::hypervisor("mshvsim:7.2");
        if (!tests::has_backend(HypervisorChoice::kvm, "state from kvm to mshvsim and back") ||
            !tests::has_backend(over, "state from kvm to mshvsim and back")) {
            return;
        }
        const auto config = portable_config(HypervisorChoice::kvm);
        auto state = must(machine_on(HypervisorChoice::kvm, config)->save());
        auto& first = state.vcpus[0];
        first.registers.rbx = 0x1122334455667788;
        first.debug.db[1] = 0x1000;
        // A null SS of ring 3, as KVM may tell it.
        first.system.ss.attributes = 1U << 16U;
        for (const auto choice : {over, HypervisorChoice::kvm, over, HypervisorChoice::kvm}) {
            const auto machine = machine_on(choice, config);
            must(machine->restore(state)); // reads back and compares
            state = must(machine->save());
        }
        CHECK(state.vcpus[0].registers.rbx == 0x1122334455667788);
        CHECK(state.vcpus[0].debug.db[1] == 0x1000);
        CHECK((state.vcpus[0].system.ss.attributes >> 16U) == 1);
        CHECK(state.vcpus[1].run_state != vmm::RunState::runnable);
    }

    TEST_CASE("the Microsoft hypervisor's state is refused to a portable guest by name") {
        const auto choice = tests::hypervisor("mshvsim:7.2");
        if (!tests::has_backend(choice, "synthetic state for a portable guest")) {
            return;
        }
        const auto machine = machine_on(choice, portable_config(choice));
        auto state = must(machine->save());
        state.vcpus[0].hyperv.emplace().guest_os_id = 0x8100000000000000;
        const auto refused = machine->restore(state);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().text().find("the guest's identity") != std::string::npos);
    }

    TEST_CASE("an interrupt that waits outside the APIC is saved as a request inside it") {
        const auto choice = tests::hypervisor("mshvsim:7.2");
        if (!tests::has_backend(choice, "interrupt vectors of a portable guest")) {
            return;
        }
        constexpr std::uint64_t one_of_0x41 = 1U | (0x41U << 8U);
        const auto machine = machine_on(choice, portable_config(choice));
        auto state = must(machine->save());
        state.vcpus[0].hyperv.emplace().interrupt_vectors = one_of_0x41;
        must(machine->restore(state));
        const auto saved = must(machine->save());
        CHECK_FALSE(saved.vcpus[0].hyperv.has_value());
        constexpr std::size_t request_32_to_63 = 0x200 + 0x10 * 2;
        CHECK((*saved.vcpus[0].lapic)[request_32_to_63] == std::byte{1U << 1U});
    }
}
