// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

using namespace wherry::conformance;

TEST_SUITE("mshv.create_partition") {
    TEST_CASE("version 1 of the structure, as QEMU 10 uses it, makes a partition") {
        if (!needs_apic("mshv.create_partition: version 1 as QEMU 10 uses it")) {
            return;
        }
        const auto device = open_device();
        ioctls::CreatePartitionV1 create{.flags = 0x7, .isolation = 0};
        CHECK(control_open(device.descriptor, ioctls::create_partition, &create).outcome == "ok");
    }

    TEST_CASE("version 2 with the host's features makes a partition") {
        const auto device = open_device();
        CHECK(create_partition(device.descriptor).outcome == "ok");
    }

    TEST_CASE("a flag beyond bit 5 is EINVAL") {
        const auto device = open_device();
        for (const std::uint64_t flag : {std::uint64_t{1} << 6U, std::uint64_t{1} << 63U}) {
            ioctls::CreatePartitionV1 create{.flags = 0x7 | flag, .isolation = 0};
            CHECK(
                control_open(device.descriptor, ioctls::create_partition, &create).outcome ==
                "EINVAL");
        }
    }

    TEST_CASE("an isolation is EINVAL") {
        const auto device = open_device();
        ioctls::CreatePartitionV1 create{.flags = 0x7, .isolation = 1};
        CHECK(
            control_open(device.descriptor, ioctls::create_partition, &create).outcome == "EINVAL");
    }

    TEST_CASE("anything but two feature banks, and reserved bytes, are EINVAL") {
        const auto device = open_device();
        ioctls::CreatePartition create;
        create.flags = 0xf;
        const auto outcome = [&] {
            return control_open(device.descriptor, ioctls::create_partition, &create).outcome;
        };
        create.feature_banks = 1;
        CHECK(outcome() == "EINVAL");
        create.feature_banks = 3;
        CHECK(outcome() == "EINVAL");
        create.feature_banks = 2;
        create.reserved0[5] = 1;
        CHECK(outcome() == "EINVAL");
        create.reserved0[5] = 0;
        create.reserved1[1] = 1;
        CHECK(outcome() == "EINVAL");
    }

    TEST_CASE("version 2's fields are not looked at without its flag") {
        const auto device = open_device();
        ioctls::CreatePartition create;
        create.flags = usual_flags();
        create.feature_banks = 99;
        create.reserved1[0] = 1;
        CHECK(control_open(device.descriptor, ioctls::create_partition, &create).outcome == "ok");
    }

    TEST_CASE("a bad address is EFAULT") {
        const auto device = open_device();
        CHECK(
            control_open(device.descriptor, ioctls::create_partition, bad_pointer()).outcome ==
            "EFAULT");
    }

    TEST_CASE("initialising twice is fine") {
        const PartitionBed bed;
        CHECK(control(bed.partition, ioctls::initialize_partition) == "ok");
    }

    TEST_CASE("a partition lives on while a VP's descriptor is open") {
        VpBed bed;
        bed.partition.close();
        CHECK(get_register(bed.vp, abi::registers::rip).call.outcome == "ok");
    }
}
