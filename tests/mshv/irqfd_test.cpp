// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>

using namespace wherry::conformance;
namespace flags = ioctls::irqfd_flags;

namespace {

std::string bind(const PartitionBed& bed, int fd, std::uint32_t gsi, std::uint32_t bits = 0) {
    ioctls::Irqfd argument{.fd = fd, .resample_fd = -1, .gsi = gsi, .flags = bits};
    return control(bed.partition, ioctls::irqfd, &argument);
}

Descriptor new_eventfd() {
    return Descriptor{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
}

} // namespace

TEST_SUITE("mshv.irqfd") {
    TEST_CASE("a GSI without a route is bound and unbound") {
        if (!needs_apic("mshv.irqfd: binding")) {
            return;
        }
        const PartitionBed bed;
        const Descriptor event = new_eventfd();
        CHECK(bind(bed, event.get(), 30) == "ok");
        CHECK(bind(bed, event.get(), 30, flags::deassign) == "ok");
    }

    TEST_CASE("unknown flags are EINVAL") {
        const PartitionBed bed;
        const Descriptor event = new_eventfd();
        CHECK(bind(bed, event.get(), 30, 4) == "EINVAL");
    }

    TEST_CASE("a closed descriptor is EBADF, one of another kind EINVAL") {
        const PartitionBed bed;
        CHECK(bind(bed, 1'000'000, 30) == "EBADF");
        const Descriptor null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
        CHECK(bind(bed, null.get(), 30) == "EINVAL");
    }

    TEST_CASE("an eventfd serves one GSI") {
        if (!needs_apic("mshv.irqfd: binding two")) {
            return;
        }
        const PartitionBed bed;
        const Descriptor event = new_eventfd();
        REQUIRE(bind(bed, event.get(), 30) == "ok");
        CHECK(bind(bed, event.get(), 31) == "EBUSY");
    }

    TEST_CASE("unbinding what is not bound succeeds") {
        const PartitionBed bed;
        const Descriptor event = new_eventfd();
        CHECK(bind(bed, event.get(), 30, flags::deassign) == "ok");
    }

    TEST_CASE("resampling needs a route that is level-triggered") {
        if (!needs_apic("mshv.irqfd: resampling")) {
            return;
        }
        const PartitionBed bed;
        const Descriptor event = new_eventfd();
        const Descriptor again = new_eventfd();
        ioctls::Irqfd argument{
            .fd = event.get(), .resample_fd = again.get(), .gsi = 5, .flags = flags::resample};
        struct {
            ioctls::IrqTableHeader header{.count = 1};
            ioctls::IrqTableEntry entry{.gsi = 5, .address_low = 0xfee0'0000, .data = 0x30};
        } table;
        REQUIRE(control(bed.partition, ioctls::set_msi_routing, &table) == "ok");
        CHECK(control(bed.partition, ioctls::irqfd, &argument) == "EINVAL");
        table.entry.data = 0x8030; // level
        REQUIRE(control(bed.partition, ioctls::set_msi_routing, &table) == "ok");
        CHECK(control(bed.partition, ioctls::irqfd, &argument) == "ok");
    }

    TEST_CASE("a bad address is EFAULT") {
        const PartitionBed bed;
        CHECK(control(bed.partition, ioctls::irqfd, bad_pointer()) == "EFAULT");
    }
}
