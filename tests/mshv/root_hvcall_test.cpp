// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <algorithm>
#include <array>
#include <optional>

using namespace wherry::conformance;

namespace {

struct Call {
    std::array<std::byte, 4096> input{};
    std::array<std::byte, 4096> output{};
    ioctls::RootHvcall arguments;
    // Where not set, the arrays above.
    std::optional<std::uint64_t> input_at, output_at;
    std::uint16_t initial_status = 0;

    explicit Call(std::uint16_t code) {
        arguments.code = code;
        arguments.input_size = 16;
        arguments.output_size = 8;
    }
    std::string on(const Descriptor& descriptor) {
        arguments.status = initial_status;
        arguments.input = input_at.value_or(address_of(input.data()));
        arguments.output = output_at.value_or(address_of(output.data()));
        return control(descriptor, ioctls::root_hvcall, &arguments);
    }
};

/// Reads PROCESSOR_FEATURES0: right as it stands.
Call right_call() {
    Call call{hypercalls::get_partition_property};
    hypercalls::GetProperty input;
    input.code = abi::properties::processor_features0;
    std::ranges::copy(bytes_of(input), call.input.begin());
    return call;
}

} // namespace

TEST_SUITE("mshv.root_hvcall") {
    TEST_CASE("a call that is right works on all three descriptors") {
        const VpBed bed;
        CHECK(right_call().on(bed.device) == "ok");
        CHECK(right_call().on(bed.partition) == "ok");
        CHECK(right_call().on(bed.vp) == "ok");
    }

    TEST_CASE("a status that is not 0 on the way in is EINVAL") {
        const VpBed bed;
        auto call = right_call();
        call.initial_status = 1;
        CHECK(call.on(bed.partition) == "EINVAL");
    }

    TEST_CASE("the input is there, of 8 to 4096 bytes") {
        const VpBed bed;
        auto call = right_call();
        call.input_at = 0;
        CHECK(call.on(bed.partition) == "EINVAL");
        call = right_call();
        for (const int size : {0, 7, 4097}) {
            call.arguments.input_size = static_cast<std::uint16_t>(size);
            CHECK(call.on(bed.partition) == "EINVAL");
        }
    }

    TEST_CASE("an output that is there has 1 to 4096 bytes; without one its size is ignored") {
        const VpBed bed;
        auto call = right_call();
        call.arguments.output_size = 0;
        CHECK(call.on(bed.partition) == "EINVAL");
        call.arguments.output_size = 4097;
        CHECK(call.on(bed.partition) == "EINVAL");
        call.output_at = 0;
        CHECK(call.on(bed.partition) == "ok");
    }

    TEST_CASE("reserved bytes are EINVAL") {
        const VpBed bed;
        auto call = right_call();
        call.arguments.reserved[5] = 1;
        CHECK(call.on(bed.partition) == "EINVAL");
    }

    TEST_CASE("bad addresses are EFAULT") {
        const VpBed bed;
        CHECK(control(bed.partition, ioctls::root_hvcall, bad_pointer()) == "EFAULT");
        auto call = right_call();
        call.input_at = bad_address;
        CHECK(call.on(bed.partition) == "EFAULT");
        call = right_call();
        call.output_at = bad_address;
        CHECK(call.on(bed.partition) == "EFAULT");
    }

    TEST_CASE("codes that are not passed on are EINVAL") {
        const VpBed bed;
        // Linux 7.2 passes neither READ_GPA nor WRITE_GPA on.
        for (const int code :
             {0x0000, 0x0040, 0x004b, 0x004e, 0x0053, 0x0054, 0x00e3, 0x00e4, 0x00c2, 0xffff}) {
            CAPTURE(code);
            CHECK(Call{static_cast<std::uint16_t>(code)}.on(bed.partition) == "EINVAL");
            CHECK(Call{static_cast<std::uint16_t>(code)}.on(bed.vp) == "EINVAL");
        }
    }

    TEST_CASE("the device passes on property reads alone") {
        const VpBed bed;
        for (const int code :
             {0x0045,
              0x004d,
              0x0050,
              0x0051,
              0x0052,
              0x0056,
              0x0091,
              0x0094,
              0x00c0,
              0x00c1,
              0x00c9,
              0x00f4}) {
            CAPTURE(code);
            CHECK(Call{static_cast<std::uint16_t>(code)}.on(bed.device) == "EINVAL");
        }
    }

    TEST_CASE("the first 8 bytes of the input are the kernel's") {
        const VpBed bed;
        hypercalls::GetProperty input;
        input.partition_id = 0x1234'5678'9abc'def0;
        input.code = abi::properties::processor_features0;
        std::uint64_t value = 0;
        const auto result = hypercall(
            bed.partition, hypercalls::get_partition_property, bytes_of(input), bytes_of(value));
        CHECK(result.outcome == "ok");
        CHECK(input.partition_id == 0x1234'5678'9abc'def0); // ours is not written
    }
}
