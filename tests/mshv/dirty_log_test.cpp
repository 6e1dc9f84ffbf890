// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include <fmt/format.h>

using namespace wherry::conformance;
namespace access_op = ioctls::access_op;
namespace properties = abi::properties;

namespace {

constexpr std::uint64_t batch = 0x10000; // pages, as QEMU and Cloud Hypervisor ask

struct Region : VpBed {
    explicit Region(std::uint64_t pages) : memory{pages * abi::page_size}, bits(pages / 8) {
        REQUIRE(map_memory(partition, memory, 0) == "ok");
    }
    /// One pass over the region; "ok", or what the first batch that fails says.
    std::string pass(std::uint8_t operation) {
        const std::uint64_t pages = memory.size() / abi::page_size;
        for (std::uint64_t first = 0; first < pages; first += batch) {
            ioctls::GpapAccessBitmap argument;
            argument.access_type = ioctls::access_type::dirty;
            argument.access_op = operation;
            argument.page_count = std::min(batch, pages - first);
            argument.first_gfn = first;
            argument.bitmap = address_of(bits.data() + first / 8);
            if (auto outcome = control(partition, ioctls::get_gpap_access_bitmap, &argument);
                outcome != "ok") {
                return outcome;
            }
        }
        return "ok";
    }
    Mapping memory;
    std::vector<std::uint8_t> bits;
};

/// Nothing here touches the memory: 8 GiB of it cost nothing where the kernel maps at touch.
void check_discipline(std::uint64_t pages) {
    Region region{pages};
    REQUIRE(
        set_property(region.partition, properties::gpa_page_access_tracking, 1).outcome == "ok");
    CHECK(region.pass(access_op::clear) == "ok"); // what it says right after the start is open
    CHECK(region.pass(access_op::set) == "ok");
    CHECK(std::ranges::all_of(region.bits, [](std::uint8_t byte) { return byte == 0; }));
    CHECK(region.pass(access_op::noop) == "ok");
    const auto first = region.bits;
    CHECK(region.pass(access_op::noop) == "ok");
    CHECK(region.bits == first);
    const auto set = std::ranges::count(first, 0xff);
    saw(fmt::format("dirty bits after a SET pass over {} pages", pages),
        fmt::format("{} of {} bytes all set (overlays may stay 0)", set, first.size()));
    CHECK(region.pass(access_op::set) == "ok");
    CHECK(set_property(region.partition, properties::gpa_page_access_tracking, 0).outcome == "ok");
    CHECK(unmap_memory(region.partition, region.memory, 0) == "ok");
}

std::string ask(const Region& region, ioctls::GpapAccessBitmap argument) {
    return control(region.partition, ioctls::get_gpap_access_bitmap, &argument);
}

} // namespace

TEST_SUITE("mshv.dirty_log") {
    TEST_CASE("32 MiB: clear, set, look, disable") {
        check_discipline(8192);
    }

    TEST_CASE("8 GiB: clear, set, look, disable") {
        if (std::getenv("MSHV_PINS_MEMORY") != nullptr) {
            fmt::print("SKIPPED: mshv.dirty_log: 8 GiB: this kernel pins memory\n");
            return;
        }
        check_discipline(std::uint64_t{8} << 18U);
    }

    TEST_CASE("arguments that make no sense are EINVAL") {
        Region region{512};
        ioctls::GpapAccessBitmap right;
        right.access_type = ioctls::access_type::dirty;
        right.access_op = access_op::clear;
        right.page_count = 512;
        right.bitmap = address_of(region.bits.data());
        auto wrong = right;
        wrong.access_type = 2;
        CHECK(ask(region, wrong) == "EINVAL");
        wrong = right;
        wrong.access_op = 3;
        CHECK(ask(region, wrong) == "EINVAL");
        wrong = right;
        wrong.reserved[5] = 1;
        CHECK(ask(region, wrong) == "EINVAL");
        wrong = right;
        wrong.page_count = 0;
        CHECK(ask(region, wrong) == "EINVAL");
        wrong = right;
        wrong.bitmap = 0;
        CHECK(ask(region, wrong) == "EINVAL");
    }

    TEST_CASE("a range that wraps is refused") {
        Region region{512};
        ioctls::GpapAccessBitmap argument;
        argument.access_type = ioctls::access_type::dirty;
        argument.page_count = 512;
        argument.first_gfn = ~std::uint64_t{0} - 10;
        argument.bitmap = address_of(region.bits.data());
        const auto outcome = ask(region, argument);
        CHECK(outcome != "ok");
        saw("GPAP bitmap of a range that wraps", outcome + " (read in 7.2: E2BIG)");
    }

    TEST_CASE("more pages than the kernel finds a byte of memory for are ENOMEM") {
        Region region{512};
        ioctls::GpapAccessBitmap argument;
        argument.access_type = ioctls::access_type::dirty;
        argument.page_count = std::uint64_t{1} << 46U;
        argument.bitmap = address_of(region.bits.data());
        CHECK(ask(region, argument) == "ENOMEM");
    }

    TEST_CASE("bad addresses are EFAULT") {
        Region region{512};
        CHECK(control(region.partition, ioctls::get_gpap_access_bitmap, bad_pointer()) == "EFAULT");
        REQUIRE(
            set_property(region.partition, properties::gpa_page_access_tracking, 1).outcome ==
            "ok");
        ioctls::GpapAccessBitmap argument;
        argument.access_type = ioctls::access_type::dirty;
        argument.access_op = access_op::clear;
        argument.page_count = 512;
        argument.bitmap = bad_address;
        CHECK(ask(region, argument) == "EFAULT");
    }

    TEST_CASE("hypercall 0xC9 without flags looks and changes nothing") {
        Region region{512};
        REQUIRE(
            set_property(region.partition, properties::gpa_page_access_tracking, 1).outcome ==
            "ok");
        REQUIRE(region.pass(access_op::clear) == "ok");
        for (int i = 0; i < 2; ++i) {
            hypercalls::GetGpaPagesAccessStates input;
            std::vector<std::byte> states(512, std::byte{0xff});
            const auto result = hypercall(
                region.partition,
                hypercalls::get_gpa_pages_access_states,
                bytes_of(input),
                states,
                512);
            CHECK(result.outcome == "ok");
            CHECK(result.reps == 512);
            CHECK(std::ranges::all_of(
                states, [](std::byte state) { return (state & std::byte{2}) == std::byte{0}; }));
        }
        CHECK(region.pass(access_op::noop) == "ok");
        CHECK(std::ranges::all_of(region.bits, [](std::uint8_t byte) { return byte == 0; }));
        CHECK(region.pass(access_op::noop) == "ok");
        saw("NOOP after NOOP on clean pages",
            region.bits[0] == 0 ? "changed nothing" : "the first one set them (as in 7.2)");
    }

    TEST_CASE("open points of the dirty log") {
        Region region{512};
        saw("GPAP bitmap with tracking off", region.pass(access_op::clear));
        REQUIRE(
            set_property(region.partition, properties::gpa_page_access_tracking, 1).outcome ==
            "ok");
        ioctls::GpapAccessBitmap hole;
        hole.access_type = ioctls::access_type::dirty;
        hole.access_op = access_op::clear;
        hole.page_count = 512;
        hole.first_gfn = 0x10'0000;
        hole.bitmap = address_of(region.bits.data());
        saw("GPAP bitmap of unmapped pages", ask(region, hole));
        REQUIRE(region.pass(access_op::clear) == "ok");
        const auto off = set_property(region.partition, properties::gpa_page_access_tracking, 0);
        saw("disabling without a SET pass",
            fmt::format("{}, status {:#x}", off.outcome, off.status));
    }
}
