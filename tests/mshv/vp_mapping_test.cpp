// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <cstring>

using namespace wherry::conformance;
namespace mapping = ioctls::vp_mapping;

TEST_SUITE("mshv.vp_mapping") {
    TEST_CASE("the register page is valid from the start") {
        const VpBed bed;
        const Mapping page{bed.vp, abi::page_size, mapping::register_page};
        REQUIRE(page.outcome() == "ok");
        abi::RegisterPage registers;
        std::memcpy(&registers, page.data(), sizeof(registers));
        CHECK(registers.version == 1);
        CHECK(registers.is_valid == 1);
        CHECK(registers.dirty == 0);
        CHECK(registers.rip == get_register(bed.vp, abi::registers::rip).value.low);
    }

    TEST_CASE("registers written by hypercall are on the page, which stays clean") {
        const VpBed bed;
        const Mapping page{bed.vp, abi::page_size, mapping::register_page};
        REQUIRE(page.outcome() == "ok");
        REQUIRE(
            set_register(bed.vp, abi::registers::rax, {.low = 4711, .high = 0}).outcome == "ok");
        abi::RegisterPage registers;
        std::memcpy(&registers, page.data(), sizeof(registers));
        CHECK(registers.is_valid == 1);
        CHECK(registers.dirty == 0);
        CHECK(registers.general[0] == 4711);
    }

    TEST_CASE("the message page is there") {
        const VpBed bed;
        CHECK(Mapping{bed.vp, abi::page_size, mapping::message_page}.outcome() == "ok");
    }

    TEST_CASE("a partition without encryption has no GHCB page") {
        const VpBed bed;
        CHECK(Mapping{bed.vp, abi::page_size, mapping::ghcb_page}.outcome() == "ENODEV");
    }

    TEST_CASE("other pages are EINVAL") {
        const VpBed bed;
        CHECK(Mapping{bed.vp, abi::page_size, 3 * abi::page_size}.outcome() == "EINVAL");
        CHECK(Mapping{bed.vp, abi::page_size, 100 * abi::page_size}.outcome() == "EINVAL");
    }
}
