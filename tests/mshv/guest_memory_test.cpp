// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

using namespace wherry::conformance;
namespace flags = ioctls::memory_flags;

namespace {

constexpr std::size_t page = abi::page_size;

ioctls::MemoryRegion region_of(const Mapping& memory, std::uint64_t gfn) {
    ioctls::MemoryRegion region;
    region.size = memory.size();
    region.guest_pfn = gfn;
    region.userspace_address = memory.address();
    region.flags = flags::writable | flags::executable;
    return region;
}

std::string set(const PartitionBed& bed, ioctls::MemoryRegion region) {
    return control(bed.partition, ioctls::set_guest_memory, &region);
}

} // namespace

TEST_SUITE("mshv.guest_memory") {
    TEST_CASE("a page is mapped and unmapped with the same structure") {
        const PartitionBed bed;
        const Mapping memory{page};
        CHECK(map_memory(bed.partition, memory, 1) == "ok");
        CHECK(unmap_memory(bed.partition, memory, 1) == "ok");
        CHECK(map_memory(bed.partition, memory, 1) == "ok");
    }

    TEST_CASE("what is not whole pages, or has unknown bits, is EINVAL") {
        const PartitionBed bed;
        const Mapping memory{2 * page};
        auto region = region_of(memory, 1);
        region.size = 0;
        CHECK(set(bed, region) == "EINVAL");
        region.size = page + 1;
        CHECK(set(bed, region) == "EINVAL");
        region = region_of(memory, 1);
        region.userspace_address += 1;
        CHECK(set(bed, region) == "EINVAL");
        region = region_of(memory, 1);
        region.flags = 8;
        CHECK(set(bed, region) == "EINVAL");
        region = region_of(memory, 1);
        region.reserved[6] = 1;
        CHECK(set(bed, region) == "EINVAL");
    }

    TEST_CASE("an address that is not the process's is EINVAL") {
        const PartitionBed bed;
        const Mapping memory{page};
        auto region = region_of(memory, 1);
        region.userspace_address = 0xffff'8000'0000'0000; // the kernel's
        CHECK(set(bed, region) == "EINVAL");
        region.userspace_address = page; // below what may be mapped: nothing is there
        CHECK(set(bed, region) == "EINVAL");
    }

    TEST_CASE("guest addresses that are taken are EEXIST") {
        const PartitionBed bed;
        const Mapping first{4 * page};
        const Mapping second{4 * page};
        REQUIRE(map_memory(bed.partition, first, 0x100) == "ok");
        CHECK(map_memory(bed.partition, second, 0x100) == "EEXIST");
        CHECK(map_memory(bed.partition, second, 0x103) == "EEXIST");
        CHECK(map_memory(bed.partition, second, 0xfd) == "EEXIST");
        CHECK(map_memory(bed.partition, second, 0x104) == "ok");
    }

    TEST_CASE("unmapping what is not there is ENOENT") {
        const PartitionBed bed;
        const Mapping memory{page};
        CHECK(unmap_memory(bed.partition, memory, 1) == "ENOENT");
    }

    TEST_CASE("unmapping a part, or with another address, is EINVAL") {
        const PartitionBed bed;
        const Mapping memory{4 * page};
        const Mapping other{4 * page};
        REQUIRE(map_memory(bed.partition, memory, 0x10) == "ok");
        auto region = region_of(memory, 0x10);
        region.flags = flags::unmap;
        region.size = page;
        CHECK(set(bed, region) == "EINVAL");
        region.size = 4 * page;
        region.guest_pfn = 0x11;
        CHECK(set(bed, region) == "EINVAL");
        CHECK(unmap_memory(bed.partition, other, 0x10) == "EINVAL");
        CHECK(unmap_memory(bed.partition, memory, 0x10) == "ok");
    }

    TEST_CASE("with UNMAP the other flags do not matter") {
        const PartitionBed bed;
        const Mapping memory{page};
        REQUIRE(map_memory(bed.partition, memory, 1) == "ok");
        auto region = region_of(memory, 1);
        region.flags = flags::unmap | flags::writable;
        CHECK(set(bed, region) == "ok");
    }

    TEST_CASE("one host range at two guest addresses") {
        const PartitionBed bed;
        const Mapping memory{4 * page};
        REQUIRE(map_memory(bed.partition, memory, 0x10) == "ok");
        // Refused with EEXIST by the first drivers (6.15), allowed in 7.2.
        saw("one host range mapped twice", map_memory(bed.partition, memory, 0x20));
    }

    TEST_CASE("mapping before INITIALIZE") {
        const auto device = open_device();
        const auto partition = create_partition(device.descriptor);
        REQUIRE(partition.outcome == "ok");
        const Mapping memory{page};
        // Not exercised by any known client.
        saw("SET_GUEST_MEMORY before INITIALIZE", map_memory(partition.descriptor, memory, 1));
    }

    TEST_CASE("a bad address is EFAULT") {
        const PartitionBed bed;
        CHECK(control(bed.partition, ioctls::set_guest_memory, bad_pointer()) == "EFAULT");
    }
}
