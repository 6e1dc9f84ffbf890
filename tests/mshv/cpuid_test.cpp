// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

using namespace wherry::conformance;

TEST_SUITE("mshv.cpuid") {
    TEST_CASE("leaf 0 is told, and the same each time") {
        const VpBed bed;
        hypercalls::GetVpCpuidValues input;
        std::array<std::uint32_t, 4> first{};
        std::array<std::uint32_t, 4> second{};
        const auto result =
            hypercall(bed.vp, hypercalls::get_vp_cpuid_values, bytes_of(input), bytes_of(first), 1);
        CHECK(result.outcome == "ok");
        CHECK(result.reps == 1);
        CHECK(first[0] >= 1);
        hypercall(bed.vp, hypercalls::get_vp_cpuid_values, bytes_of(input), bytes_of(second), 1);
        CHECK(first == second);
    }

    TEST_CASE("a registered result is told where it is asked for") {
        const VpBed bed;
        hypercalls::CpuidResult registered;
        registered.leaf = 0x4000'0080;
        registered.always_override = 1;
        registered.eax.value = 0x1234'5678;
        const auto done = hypercall(
            bed.partition,
            hypercalls::register_intercept_result,
            bytes_of(registered).first(hypercalls::CpuidResult::input_size));
        CHECK(done.outcome == "ok");
        hypercalls::GetVpCpuidValues input;
        input.flags = hypercalls::cpuid_values_flags::apply_registered;
        input.leaf = registered.leaf;
        std::array<std::uint32_t, 4> values{};
        const auto read = hypercall(
            bed.vp, hypercalls::get_vp_cpuid_values, bytes_of(input), bytes_of(values), 1);
        saw("CPUID 0x40000080 as registered with eax 0x12345678",
            fmt::format("{}: {:#x}", read.outcome, values[0]));
    }
}
