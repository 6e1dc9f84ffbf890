// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <array>
#include <cstring>
#include <vector>

using namespace wherry::conformance;

namespace {

std::string route(
    const PartitionBed& bed,
    const std::vector<ioctls::IrqTableEntry>& entries,
    std::uint32_t reserved = 0) {
    const ioctls::IrqTableHeader header{
        .count = static_cast<std::uint32_t>(entries.size()), .reserved = reserved};
    std::vector<std::byte> table(sizeof(header) + entries.size() * sizeof(entries[0]));
    std::memcpy(table.data(), &header, sizeof(header));
    if (!entries.empty()) {
        std::memcpy(
            table.data() + sizeof(header), entries.data(), entries.size() * sizeof(entries[0]));
    }
    return control(bed.partition, ioctls::set_msi_routing, table.data());
}

} // namespace

TEST_SUITE("mshv.msi_routing") {
    TEST_CASE("an empty table, and the 24 empty lines of QEMU's IOAPIC, are taken") {
        const PartitionBed bed;
        CHECK(route(bed, {}) == "ok");
        std::vector<ioctls::IrqTableEntry> lines(24);
        for (std::uint32_t gsi = 0; gsi < 24; ++gsi) {
            lines[gsi].gsi = gsi;
        }
        CHECK(route(bed, lines) == "ok");
        CHECK(route(bed, {}) == "ok");
    }

    TEST_CASE("more than 4096 entries and a reserved word are EINVAL") {
        const PartitionBed bed;
        ioctls::IrqTableHeader header{.count = 4097};
        CHECK(control(bed.partition, ioctls::set_msi_routing, &header) == "EINVAL");
        CHECK(route(bed, {}, 1) == "EINVAL");
    }

    TEST_CASE("a GSI of 4096, a high address and a GSI that comes twice are EINVAL") {
        const PartitionBed bed;
        CHECK(route(bed, {{.gsi = 4096}}) == "EINVAL");
        CHECK(route(bed, {{.gsi = 1, .address_low = 0xfee0'0000, .address_high = 1}}) == "EINVAL");
        CHECK(route(bed, {{.gsi = 1}, {.gsi = 1}}) == "EINVAL");
        CHECK(route(bed, {{.gsi = 4095}, {.gsi = 1}}) == "ok");
    }

    TEST_CASE("a bad address is EFAULT") {
        const PartitionBed bed;
        CHECK(control(bed.partition, ioctls::set_msi_routing, bad_pointer()) == "EFAULT");
    }
}
