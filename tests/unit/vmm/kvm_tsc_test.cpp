// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vmm/refused_calls.hpp"
#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/partition.hpp"
#include "vmm/vcpu_state.hpp"

#include <cerrno>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <linux/kvm.h>

namespace {

using namespace wherry;
using formats::ErrorCode;
using tests::must;
using tests::TinyMachine;

/// As on a host that cannot scale, and whose kernel has measured its TSC again since kvm was
/// loaded: it refuses even the frequency that vCPUs begin with.
formats::Status
restore_where_frequencies_are_refused(vmm::Vcpu& vcpu, const vmm::VcpuState& state) {
    formats::Status restored;
    std::thread refused{[&] {
        tests::refuse_ioctl(KVM_SET_TSC_KHZ, EINVAL);
        restored = vcpu.restore(state);
    }};
    refused.join();
    return restored;
}

} // namespace

TEST_SUITE("vmm.kvm_tsc") {
    TEST_CASE("a frequency that KVM refuses is named; where it is KVM's own, with the remedy") {
        const auto kvm = tests::hypervisor("kvm");
        if (!tests::has_backend(kvm, "TSC frequency")) {
            return;
        }
        TinyMachine machine{kvm, {}};
        auto state = must(machine.vcpu().save());
        const auto own = state.tsc_frequency_khz;

        const auto stale = restore_where_frequencies_are_refused(machine.vcpu(), state);
        REQUIRE_FALSE(stale);
        CHECK(stale.error().code() == ErrorCode::unsupported);
        CHECK(stale.error().text().find(fmt::format("{} kHz", own)) != std::string::npos);
        CHECK(stale.error().text().find("modprobe -r") != std::string::npos);

        state.tsc_frequency_khz = own + 1;
        const auto other = restore_where_frequencies_are_refused(machine.vcpu(), state);
        REQUIRE_FALSE(other);
        CHECK(other.error().code() == ErrorCode::incompatible);
        for (const auto khz : {own, own + 1}) {
            CHECK(other.error().text().find(fmt::format("{} kHz", khz)) != std::string::npos);
        }
        must(machine.vcpu().restore(state));
    }
}
