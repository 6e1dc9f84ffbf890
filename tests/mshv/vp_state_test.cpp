// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

using namespace wherry::conformance;

namespace {

constexpr std::array<std::size_t, 5> sizes = {176, 0, 4096, 4096, 200};

std::string
move_state(const VpBed& bed, std::uint32_t request, std::uint8_t type, const Mapping& buffer) {
    ioctls::VpState state;
    state.type = type;
    state.buffer_size = static_cast<std::uint32_t>(buffer.size());
    state.buffer = buffer.address();
    return control(bed.vp, request, &state);
}

} // namespace

TEST_SUITE("mshv.vp_state") {
    TEST_CASE("every component is the same after being written back") {
        const VpBed bed;
        const auto xsave = get_property(bed.partition, abi::properties::max_xsave_data_size).value;
        saw("MAX_XSAVE_DATA_SIZE", fmt::format("{}", xsave));
        for (std::uint8_t type = 0; type < abi::vp_state::types; ++type) {
            CAPTURE(int{type});
            if (type == abi::vp_state::lapic && !needs_apic("mshv.vp_state: component 0")) {
                continue;
            }
            const std::size_t size = type == abi::vp_state::xsave ? xsave : sizes[type];
            const std::size_t pages = (size + abi::page_size - 1) / abi::page_size;
            const Mapping first{pages * abi::page_size};
            const Mapping second{pages * abi::page_size};
            REQUIRE(move_state(bed, ioctls::get_vp_state, type, first) == "ok");
            CHECK(move_state(bed, ioctls::set_vp_state, type, first) == "ok");
            REQUIRE(move_state(bed, ioctls::get_vp_state, type, second) == "ok");
            CHECK(std::equal(first.data(), first.data() + size, second.data()));
        }
    }

    TEST_CASE("an XSAVE image is compacted: its header says so") {
        const VpBed bed;
        const auto size = get_property(bed.partition, abi::properties::max_xsave_data_size).value;
        const Mapping image{(size + abi::page_size - 1) / abi::page_size * abi::page_size};
        REQUIRE(move_state(bed, ioctls::get_vp_state, abi::vp_state::xsave, image) == "ok");
        std::uint64_t xcomp_bv = 0;
        std::copy_n(image.data() + 520, sizeof(xcomp_bv), bytes_of(xcomp_bv).begin());
        CHECK((xcomp_bv >> 63U) == 1);
    }

    TEST_CASE("a type of 5, reserved bytes, and a buffer that is not whole pages are EINVAL") {
        const VpBed bed;
        const Mapping buffer{2 * abi::page_size};
        ioctls::VpState state;
        const auto outcome = [&] {
            const auto get = control(bed.vp, ioctls::get_vp_state, &state);
            const auto set = control(bed.vp, ioctls::set_vp_state, &state);
            CHECK(get == set);
            return get;
        };
        state = {.type = 5, .buffer_size = 4096, .buffer = buffer.address()};
        CHECK(outcome() == "EINVAL");
        state = {.type = 4, .reserved = {0, 0, 1}, .buffer_size = 4096, .buffer = buffer.address()};
        CHECK(outcome() == "EINVAL");
        state = {.type = 4, .buffer_size = 0, .buffer = buffer.address()};
        CHECK(outcome() == "EINVAL");
        state = {.type = 4, .buffer_size = 200, .buffer = buffer.address()};
        CHECK(outcome() == "EINVAL");
        state = {.type = 0, .buffer_size = 4096, .buffer = buffer.address() + 8};
        CHECK(outcome() == "EINVAL");
    }

    TEST_CASE("the buffer size is rewritten with what the state takes") {
        const VpBed bed;
        const Mapping buffer{2 * abi::page_size};
        ioctls::VpState state{
            .type = abi::vp_state::synthetic_timers,
            .buffer_size = 4096,
            .buffer = buffer.address()};
        REQUIRE(control(bed.vp, ioctls::get_vp_state, &state) == "ok");
        CHECK(state.buffer_size == 200);
        if (!needs_apic("mshv.vp_state: the size of component 0")) {
            return;
        }
        state = {.type = abi::vp_state::lapic, .buffer_size = 8192, .buffer = buffer.address()};
        REQUIRE(control(bed.vp, ioctls::get_vp_state, &state) == "ok");
        CHECK(state.buffer_size == 4096);
    }

    TEST_CASE("component 0 of a partition without local APICs is refused") {
        const auto device = open_device();
        ioctls::CreatePartitionV1 create{.flags = 0x4, .isolation = 0};
        const auto made = control_open(device.descriptor, ioctls::create_partition, &create);
        REQUIRE(made.outcome == "ok");
        REQUIRE(control(made.descriptor, ioctls::initialize_partition) == "ok");
        const auto vp = create_vp(made.descriptor, 0);
        REQUIRE(vp.outcome == "ok");
        const Mapping buffer{abi::page_size};
        ioctls::VpState state{
            .type = abi::vp_state::lapic, .buffer_size = 4096, .buffer = buffer.address()};
        const auto outcome = control(vp.descriptor, ioctls::get_vp_state, &state);
        saw("GET_VP_STATE of the LAPIC without LAPICs", outcome);
        CHECK((offers_apic() || outcome == "EIO"));
    }

    TEST_CASE("bad addresses are EFAULT") {
        const VpBed bed;
        CHECK(control(bed.vp, ioctls::get_vp_state, bad_pointer()) == "EFAULT");
        ioctls::VpState state{
            .type = abi::vp_state::simp, .buffer_size = 4096, .buffer = bad_address};
        CHECK(control(bed.vp, ioctls::get_vp_state, &state) == "EFAULT");
    }
}
