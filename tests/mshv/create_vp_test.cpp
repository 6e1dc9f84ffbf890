// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <fmt/format.h>

using namespace wherry::conformance;
namespace names = abi::registers;

TEST_SUITE("mshv.create_vp") {
    TEST_CASE("an index of 256 or more is EINVAL") {
        const PartitionBed bed;
        CHECK(create_vp(bed.partition, 256).outcome == "EINVAL");
        CHECK(create_vp(bed.partition, 0xffff'ffff).outcome == "EINVAL");
    }

    TEST_CASE("an index is used once, even when its descriptor has been closed") {
        const PartitionBed bed;
        auto first = create_vp(bed.partition, 0);
        REQUIRE(first.outcome == "ok");
        CHECK(create_vp(bed.partition, 0).outcome == "EEXIST");
        first.descriptor.close();
        CHECK(create_vp(bed.partition, 0).outcome == "EEXIST");
        const auto second = create_vp(bed.partition, 1);
        if (second.outcome == "ENOMEM") {
            skipped("mshv.create_vp: a second VP", "the hypervisor has no room for it: ENOMEM");
            return;
        }
        CHECK(second.outcome == "ok");
    }

    TEST_CASE("a bad address is EFAULT") {
        const PartitionBed bed;
        CHECK(control(bed.partition, ioctls::create_vp, bad_pointer()) == "EFAULT");
    }

    TEST_CASE("before INITIALIZE the hypervisor refuses") {
        const auto device = open_device();
        const auto partition = create_partition(device.descriptor);
        REQUIRE(partition.outcome == "ok");
        const auto vp = create_vp(partition.descriptor, 0);
        CHECK(vp.outcome != "ok");
        saw("CREATE_VP before INITIALIZE", vp.outcome);
    }

    TEST_CASE("a fresh VP is explicitly suspended, and not by an intercept") {
        const VpBed bed;
        const auto by_us = get_register(bed.vp, names::explicit_suspend);
        CHECK(by_us.call.outcome == "ok");
        CHECK(by_us.value.low == 1);
        const auto by_intercept = get_register(bed.vp, names::intercept_suspend);
        CHECK(by_intercept.call.outcome == "ok");
        CHECK(by_intercept.value.low == 0);
    }

    TEST_CASE("a fresh VP is in the architecture's reset state") {
        const VpBed bed;
        const auto cs = abi::read_as<abi::SegmentValue>(get_register(bed.vp, names::cs).value);
        CHECK(cs.selector == 0xf000);
        CHECK(cs.base == 0xffff'0000);
        CHECK(get_register(bed.vp, names::rip).value.low == 0xfff0);
        CHECK(get_register(bed.vp, names::rflags).value.low == 2);
        CHECK((get_register(bed.vp, names::cr0).value.low & 0x8000'0001) == 0);
    }

    TEST_CASE("INTERNAL_ACTIVITY of a fresh second VP") {
        const VpBed bed;
        const auto second = create_vp(bed.partition, 1);
        if (second.outcome == "ENOMEM") {
            skipped("mshv.create_vp: INTERNAL_ACTIVITY", "no room for a second VP: ENOMEM");
            return;
        }
        REQUIRE(second.outcome == "ok");
        const auto activity = get_register(bed.partition, names::internal_activity, 1);
        CHECK(activity.call.outcome == "ok");
        saw("INTERNAL_ACTIVITY of a fresh VP 1", fmt::format("{:#x}", activity.value.low));
    }
}
