// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <fmt/format.h>

using namespace wherry::conformance;
namespace properties = abi::properties;

TEST_SUITE("mshv.property") {
    TEST_CASE("the host's properties are read on the device") {
        const auto device = open_device();
        for (const std::uint32_t code :
             {properties::physical_address_width,
              properties::processor_features0,
              properties::processor_features1}) {
            const auto property = get_property(device.descriptor, code);
            CAPTURE(code);
            CHECK(property.call.outcome == "ok");
            CHECK(property.call.status == 0);
            CHECK((property.value != 0 || code == properties::processor_features1));
        }
    }

    TEST_CASE("what the VMM is offered is read on the device, or denied") {
        const auto device = open_device();
        const auto capabilities =
            get_property_ex(device.descriptor, properties::ex::vmm_capabilities);
        CHECK((capabilities.call.outcome == "ok" || capabilities.call.status == 6));
        saw("VMM_CAPABILITIES",
            fmt::format("{} {:#x}", capabilities.call.outcome, capabilities.value));
        const auto synthetic = get_property_ex(
            device.descriptor, properties::ex::assignable_synthetic_processor_features);
        saw("ASSIGNABLE_SYNTHETIC_PROC_FEATURES",
            fmt::format("{} {:#x}", synthetic.call.outcome, synthetic.value));
    }

    TEST_CASE("a partition's properties are readable and stable") {
        const VpBed bed;
        for (const std::uint32_t code :
             {properties::max_xsave_data_size,
              properties::processor_xsave_features,
              properties::processor_clock_frequency}) {
            const auto first = get_property(bed.partition, code);
            const auto second = get_property(bed.partition, code);
            CAPTURE(code);
            CHECK(first.call.outcome == "ok");
            CHECK(first.value == second.value);
        }
        CHECK(get_property(bed.partition, properties::max_xsave_data_size).value >= 576);
        CHECK(get_property(bed.partition, properties::processor_clock_frequency).value > 0);
    }

    TEST_CASE("UNIMPLEMENTED_MSR_ACTION reads as it was written") {
        const VpBed bed;
        for (const std::uint64_t value : {1U, 0U, 1U}) {
            CHECK(
                set_property(bed.partition, properties::unimplemented_msr_action, value).outcome ==
                "ok");
            const auto read = get_property(bed.partition, properties::unimplemented_msr_action);
            CHECK(read.value == value);
        }
    }

    TEST_CASE("an early property written late is refused with status 7") {
        const VpBed bed;
        const auto privileges = set_property(bed.partition, properties::privilege_flags, 0);
        CHECK(privileges.outcome == "EIO");
        CHECK(privileges.status == 7);
        const auto synthetic =
            set_property(bed.partition, properties::synthetic_processor_features, 0);
        CHECK(synthetic.outcome == "EIO");
        CHECK(synthetic.status == 7);
    }

    TEST_CASE("an unknown property is EIO") {
        const VpBed bed;
        const auto property = get_property(bed.partition, 0x0fff'0000);
        CHECK(property.call.outcome != "ok");
        saw("an unknown property",
            fmt::format("{}, status {:#x}", property.call.outcome, property.call.status));
    }

    TEST_CASE("properties are written on the partition's descriptor alone") {
        const VpBed bed;
        constexpr auto code = properties::unimplemented_msr_action;
        CHECK(set_property(bed.vp, code, 1).outcome == "EINVAL");
        CHECK(set_property(bed.device, code, 1).outcome == "EINVAL");
    }

    TEST_CASE("the reference clock stands still while frozen, and takes a value then") {
        const VpBed bed;
        REQUIRE(set_property(bed.partition, properties::time_freeze, 1).outcome == "ok");
        const auto frozen = get_property(bed.partition, properties::reference_time);
        CHECK(frozen.call.outcome == "ok");
        CHECK(get_property(bed.partition, properties::reference_time).value == frozen.value);
        constexpr std::uint64_t value = 12'345'678'901;
        CHECK(set_property(bed.partition, properties::reference_time, value).outcome == "ok");
        CHECK(get_property(bed.partition, properties::reference_time).value == value);
        CHECK(set_property(bed.partition, properties::time_freeze, 0).outcome == "ok");
        CHECK(get_property(bed.partition, properties::reference_time).value >= value);
        const auto thawed = set_property(bed.partition, properties::reference_time, value);
        CHECK(thawed.outcome != "ok");
        saw("REFERENCE_TIME written while time runs",
            fmt::format("{}, status {:#x}", thawed.outcome, thawed.status));
    }
}
