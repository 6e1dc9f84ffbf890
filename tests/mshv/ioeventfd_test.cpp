// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <sys/eventfd.h>

using namespace wherry::conformance;
namespace flags = ioctls::ioeventfd_flags;

namespace {

constexpr std::uint64_t doorbell = 0xe7e8'5004;

struct Bed : PartitionBed {
    Descriptor event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};

    [[nodiscard]] std::string
    bind(std::uint32_t length, std::uint32_t bits = 0, std::uint64_t match = 0) const {
        return bind_at(doorbell, length, bits, match);
    }
    [[nodiscard]] std::string
    bind_at(std::uint64_t address, std::uint32_t length, std::uint32_t bits, std::uint64_t match)
        const {
        ioctls::Ioeventfd argument;
        argument.data_match = match;
        argument.address = address;
        argument.length = length;
        argument.fd = event.get();
        argument.flags = bits;
        return control(partition, ioctls::ioeventfd, &argument);
    }
};

} // namespace

TEST_SUITE("mshv.ioeventfd") {
    TEST_CASE("an address of any length is bound and unbound") {
        const Bed bed;
        CHECK(bed.bind(0) == "ok");
        CHECK(bed.bind(0, flags::deassign) == "ok");
    }

    TEST_CASE("unknown flags and reserved bytes are EINVAL") {
        const Bed bed;
        CHECK(bed.bind(4, 8) == "EINVAL");
        ioctls::Ioeventfd argument;
        argument.address = doorbell;
        argument.fd = bed.event.get();
        argument.reserved[3] = 1;
        CHECK(control(bed.partition, ioctls::ioeventfd, &argument) == "EINVAL");
    }

    TEST_CASE("ports are EOPNOTSUPP") {
        const Bed bed;
        const auto outcome = bed.bind_at(0x510, 4, flags::port_io, 0);
        CHECK((outcome == "EOPNOTSUPP" || outcome == "ENOTSUP"));
    }

    TEST_CASE("lengths are 0, 1, 2, 4 and 8") {
        const Bed bed;
        for (const std::uint32_t length : {3U, 5U, 16U, 0xffff'ffffU}) {
            CHECK(bed.bind(length) == "EINVAL");
        }
        for (const std::uint32_t length : {1U, 2U, 4U, 8U}) {
            CHECK(bed.bind(length, flags::data_match, length) == "ok");
        }
    }

    TEST_CASE("a range that wraps is EINVAL") {
        const Bed bed;
        CHECK(bed.bind_at(0xffff'ffff'ffff'fffe, 4, 0, 0) == "EINVAL");
    }

    TEST_CASE("two that one write would signal are EEXIST") {
        const Bed bed;
        REQUIRE(bed.bind(4, flags::data_match, 7) == "ok");
        CHECK(bed.bind(4, flags::data_match, 7) == "EEXIST");
        CHECK(bed.bind(4) == "EEXIST");
        CHECK(bed.bind(4, flags::data_match, 8) == "ok");
    }

    TEST_CASE("unbinding needs the same address, length and value, else ENOENT") {
        const Bed bed;
        REQUIRE(bed.bind(4, flags::data_match, 7) == "ok");
        CHECK(bed.bind(2, flags::data_match | flags::deassign, 7) == "ENOENT");
        CHECK(bed.bind(4, flags::data_match | flags::deassign, 8) == "ENOENT");
        CHECK(bed.bind(4, flags::deassign) == "ENOENT");
        CHECK(bed.bind(4, flags::data_match | flags::deassign, 7) == "ok");
        CHECK(bed.bind(4, flags::data_match | flags::deassign, 7) == "ENOENT");
    }
}
