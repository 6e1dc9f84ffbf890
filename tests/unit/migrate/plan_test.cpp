// SPDX-License-Identifier: Apache-2.0
#include "migrate/plan.hpp"

#include "formats/proto/control.pb.h"
#include "harness.hpp"
#include "migrate/ownership/event.hpp"
#include "vmm/cpu_profile.hpp"

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Bytes;
using formats::ErrorCode;

namespace {

constexpr Bytes mib{std::uint64_t{1} << 20U};

Plan good_plan() {
    Plan plan;
    plan.vm_name = "vm";
    plan.config.memory = mib * 2048;
    plan.config.vcpus = 2;
    plan.regions.push_back(
        *formats::PageRange::make(formats::Gfn{0}, formats::PageCount{2048 * 256}));
    plan.backend = "kvm";
    plan.tsc_frequency_khz = 2'000'000;
    plan.has_interrupt_controller = true;
    return plan;
}

HostOffer good_host() {
    tests::TestMachineOptions machine;
    return HostOffer{machine.backend, mib * 4096};
}

bool mentions(const std::vector<std::string>& reasons, std::string_view what) {
    return std::ranges::any_of(
        reasons, [&](const std::string& reason) { return reason.find(what) != std::string::npos; });
}

} // namespace

TEST_SUITE("migrate.plan") {
    TEST_CASE("a plan that fits meets no objection") {
        CHECK(objections(good_plan(), good_host()).empty());
        CHECK(accept_plan(good_plan(), good_host()));
    }

    TEST_CASE("too little memory is refused with both numbers") {
        auto host = good_host();
        host.available_memory = mib * 2100; // 2048 + 64 are needed
        const auto status = accept_plan(good_plan(), host);
        REQUIRE_FALSE(status);
        CHECK(status.error().code() == ErrorCode::out_of_resources);
        CHECK(status.error().text().find("needs 2112 MiB") != std::string::npos);
        CHECK(status.error().text().find("2100 MiB are available") != std::string::npos);
        host.available_memory = mib * 2112;
        CHECK(accept_plan(good_plan(), host));
    }

    TEST_CASE("a VM larger than any number of bytes does not slip through") {
        auto plan = good_plan();
        plan.config.memory = Bytes{UINT64_MAX};
        CHECK(mentions(objections(plan, good_host()), "memory"));
    }

    TEST_CASE("another page size is refused with both sizes") {
        auto plan = good_plan();
        plan.page_size = Bytes{65536};
        const auto reasons = objections(plan, good_host());
        CHECK(mentions(reasons, "65536"));
        CHECK(mentions(reasons, "4096"));
    }

    TEST_CASE("a CPU feature that the host does not have is named") {
        auto plan = good_plan();
        // Leaf 1 ECX bit 26: XSAVE.
        plan.config.cpuid.push_back({1, 0, false, 0, 0, 1U << 26U, 0});
        CHECK(mentions(objections(plan, good_host()), "xsave"));
    }

    TEST_CASE("a VM with interrupt controllers and one without do not change places") {
        auto plan = good_plan();
        auto host = good_host();
        host.backend.has_interrupt_controller = false;
        CHECK(
            objections(plan, host) == std::vector<std::string>{
                                          "the VM uses interrupt controllers (on kvm), and " +
                                          host.backend.name + " has none here"});
        plan.has_interrupt_controller = false;
        plan.backend = "soft";
        CHECK(objections(plan, host).empty());
        host.backend.has_interrupt_controller = true;
        CHECK(
            objections(plan, host) ==
            std::vector<std::string>{
                "the VM has lived without interrupt controllers (on soft), and " +
                host.backend.name + " gives each vCPU one, whose state nobody has"});
    }

    TEST_CASE("a guest of one kind of hypervisor is refused by another with the remedy") {
        const vmm::CpuidEntry kvm{0x40000000, 0, false, 0x40000010, 0x4b4d564b, 0x564b4d56, 0x4d};
        const vmm::CpuidEntry hyperv{
            0x40000000, 0, false, 0x40000010, 0x7263694d, 0x666f736f, 0x76482074};
        const vmm::CpuidEntry kvm_clock{0x40000001, 0, false, 1U << 3U, 0, 0, 0};
        auto plan = good_plan();
        plan.config.cpuid = {kvm, kvm_clock};
        auto host = good_host();
        host.backend.cpuid = {hyperv};
        const auto status = accept_plan(plan, host);
        REQUIRE_FALSE(status);
        CHECK(status.error().code() == ErrorCode::incompatible);
        CHECK(
            status.error().text() ==
            "the guest sees the hypervisor KVMKVMKVM, this is Microsoft Hv: a guest that is to "
            "move between kinds of hypervisor must be started with `--cpu portable`");
        CHECK(mentions(findings(plan, host), "the host CPU profile"));
        plan.config.cpuid = vmm::portable_cpuid(plan.config.cpuid);
        CHECK(accept_plan(plan, host));
        CHECK(mentions(findings(plan, host), "the portable CPU profile"));
    }

    TEST_CASE("everything that is missing is said at once") {
        auto plan = good_plan();
        plan.page_size = Bytes{65536};
        plan.config.vcpus = 9;
        plan.tsc_frequency_khz = 3'000'000;
        auto host = good_host();
        host.available_memory = Bytes{0};
        host.backend.has_interrupt_controller = false;
        const auto reasons = objections(plan, host);
        CHECK(reasons.size() == 5);
        const auto status = accept_plan(plan, host);
        CHECK(status.error().code() == ErrorCode::incompatible);
        for (const auto& reason : reasons) {
            CHECK(status.error().text().find(reason) != std::string::npos);
        }
    }

    TEST_CASE("a TSC frequency may differ as much as clocks do, or by any amount if scaled") {
        auto plan = good_plan();
        plan.tsc_frequency_khz = 2'000'400;
        CHECK(objections(plan, good_host()).empty());
        plan.tsc_frequency_khz = 2'010'000;
        CHECK(mentions(objections(plan, good_host()), "2010000 kHz"));
        auto host = good_host();
        host.backend.can_scale_tsc = true;
        CHECK(objections(plan, host).empty());
    }

    TEST_CASE("a plan crosses the wire unchanged") {
        auto plan = good_plan();
        plan.populated = mib * 100;
        plan.stays_paused = true;
        plan.arbiter = "file:/mnt/shared";
        plan.downtime_goal = std::chrono::milliseconds{30};
        formats::proto::Plan message;
        to_proto(plan, message);
        const auto back = from_proto(message);
        REQUIRE(back);
        CHECK(back->vm_name == plan.vm_name);
        CHECK(back->config.memory == plan.config.memory);
        CHECK(back->config.vcpus == 2);
        CHECK(back->regions == plan.regions);
        CHECK(back->page_size == plan.page_size);
        CHECK(back->populated == plan.populated);
        CHECK(back->stays_paused);
        CHECK(back->arbiter == "file:/mnt/shared");
        CHECK(back->has_interrupt_controller);
        CHECK(back->downtime_goal == plan.downtime_goal);
    }

    TEST_CASE("a plan whose arbiter has a name without end is no plan") {
        auto plan = good_plan();
        plan.arbiter = std::string(arbiter_name_limit + 1, 'a');
        formats::proto::Plan message;
        to_proto(plan, message);
        CHECK(from_proto(message).error().code() == ErrorCode::protocol);
    }

    TEST_CASE("a plan with regions that are none, empty or overlap is no plan") {
        formats::proto::Plan message;
        to_proto(good_plan(), message);
        auto none = message;
        none.clear_regions();
        CHECK(from_proto(none).error().code() == ErrorCode::protocol);
        auto empty = message;
        empty.mutable_regions(0)->set_page_count(0);
        CHECK(from_proto(empty).error().code() == ErrorCode::protocol);
        auto overlapping = message;
        *overlapping.add_regions() = message.regions(0);
        CHECK(from_proto(overlapping).error().code() == ErrorCode::protocol);
        auto many = message;
        for (int i = 0; i < 100; ++i) {
            auto* const region = many.add_regions();
            region->set_first_gfn(std::uint64_t{1} << (22U + static_cast<unsigned>(i) / 4U));
            region->set_page_count(1);
        }
        CHECK(from_proto(many).error().code() == ErrorCode::protocol);
    }

    TEST_CASE("RAM at other addresses is refused") {
        tests::RunWitness witness;
        tests::TestMachine machine{{}, witness};
        Plan plan = plan_for(machine);
        CHECK(check_layout(plan, machine.memory()));
        plan.regions[0] = *formats::PageRange::make(
            plan.regions[0].first() + formats::PageCount{512}, plan.regions[0].count());
        CHECK(check_layout(plan, machine.memory()).error().code() == ErrorCode::incompatible);
    }
}
