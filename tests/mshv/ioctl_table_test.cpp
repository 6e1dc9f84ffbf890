// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <array>
#include <utility>

#include <fmt/format.h>

using namespace wherry::conformance;

TEST_SUITE("mshv.ioctl_table") {
    TEST_CASE("the numbers of the ABI are these") {
        // Literally, so that a wrong structure size cannot make both sides wrong.
        CHECK(ioctls::create_partition == 0x4010b800);
        CHECK(ioctls::root_hvcall == 0xc020b807);
        CHECK(ioctls::initialize_partition == 0x0000b800);
        CHECK(ioctls::create_vp == 0x4004b801);
        CHECK(ioctls::set_guest_memory == 0x4020b802);
        CHECK(ioctls::irqfd == 0x4010b803);
        CHECK(ioctls::ioeventfd == 0x4020b804);
        CHECK(ioctls::set_msi_routing == 0x4008b805);
        CHECK(ioctls::get_gpap_access_bitmap == 0xc020b806);
        CHECK(ioctls::run_vp == 0x8100b800);
        CHECK(ioctls::get_vp_state == 0xc010b801);
        CHECK(ioctls::set_vp_state == 0xc010b802);
    }

    TEST_CASE("descriptors close on exec") {
        const VpBed bed;
        CHECK(closes_on_exec(bed.device));
        CHECK(closes_on_exec(bed.partition));
        CHECK(closes_on_exec(bed.vp));
    }

    TEST_CASE("an ioctl that a descriptor does not know is ENOTTY") {
        const VpBed bed;
        std::array<std::byte, 256> argument{};
        constexpr std::uint32_t nobodys = 0xc010b8ee;
        CHECK(control(bed.device, nobodys, argument.data()) == "ENOTTY");
        CHECK(control(bed.partition, nobodys, argument.data()) == "ENOTTY");
        CHECK(control(bed.vp, nobodys, argument.data()) == "ENOTTY");
        CHECK(control(bed.device, ioctls::run_vp, argument.data()) == "ENOTTY");
        CHECK(control(bed.device, ioctls::set_guest_memory, argument.data()) == "ENOTTY");
        CHECK(control(bed.partition, ioctls::get_vp_state, argument.data()) == "ENOTTY");
        CHECK(control(bed.vp, ioctls::create_vp, argument.data()) == "ENOTTY");
    }

    TEST_CASE("numbers of the VTL driver are ENOTTY") {
        const VpBed bed;
        std::array<std::byte, 256> argument{};
        for (const std::uint32_t number : {0x4004b800U, 0x8001b81dU, 0x4010b821U, 0x4008b825U}) {
            CHECK(control(bed.device, number, argument.data()) == "ENOTTY");
        }
        for (const std::uint32_t number : {0x0000b827U, 0xc010b805U, 0x4010b806U, 0x4018b823U}) {
            CHECK(control(bed.vp, number, argument.data()) == "ENOTTY");
        }
    }

    TEST_CASE("CREATE_DEVICE makes a VFIO device, or is not known") {
        const PartitionBed bed;
        struct {
            std::uint32_t type = 0; // VFIO
            std::int32_t descriptor = -1;
            std::uint32_t flags = 0;
        } create;
        const auto outcome = control(bed.partition, ioctls::out_of_tree::create_device, &create);
        const Descriptor made{outcome == "ok" ? create.descriptor : -1};
        CHECK((outcome == "ENOTTY" || made.is_open()));
    }

    TEST_CASE("rust-vmm falls back from the deprecated numbers") {
        const VpBed bed;
        std::array<std::byte, 256> argument{};
        namespace old = ioctls::out_of_tree;
        CHECK(control(bed.vp, old::get_vp_registers, argument.data()) == "ENOTTY");
        CHECK(control(bed.vp, old::set_vp_registers, argument.data()) == "ENOTTY");
        // Posted for later kernels; clients need ENOTTY or a working one.
        const std::array later = {
            std::pair{"VP_TRANSLATE_GVA", control(bed.vp, old::vp_translate_gva, argument.data())},
            std::pair{"CREATE_DEVICE", control(bed.partition, old::create_device, argument.data())},
            std::pair{
                "GET_HOST_PARTITION_PROPERTY",
                control(bed.device, old::get_host_partition_property, argument.data())}};
        for (const auto& [name, outcome] : later) {
            saw(name, fmt::format("{} (Linux 7.2: ENOTTY)", outcome));
        }
    }
}
