// SPDX-License-Identifier: Apache-2.0
// The discipline of the GPAP dirty log, call by call: what a kernel that behaves never shows.
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/dirty_log.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

using namespace wherry;
using formats::ErrorCode;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using vmm::MemoryRegion;
using vmm::mshv::Descriptor;
using vmm::mshv::DirtyLog;
namespace abi = vmm::mshv::abi;

/// Writes down what it is asked, answers with success, or from `fail_at` on with an error.
class Transcript final : public vmm::mshv::Syscalls {
public:
    std::vector<std::string> calls;
    std::size_t fail_at = ~std::size_t{0};

    int open_device() override { return -ENODEV; }
    int ioctl(int /*descriptor*/, std::uint64_t request, void* argument) override {
        const bool fails = calls.size() >= fail_at;
        if (request == abi::ioctls::root_hvcall) {
            auto& call = *static_cast<abi::ioctls::RootHvcall*>(argument);
            note_hypercall(call);
            call.status = fails ? 8 : 0;
        } else {
            const auto& scan = *static_cast<abi::ioctls::GpapAccessBitmap*>(argument);
            calls.push_back(fmt::format(
                "{} {:#x}+{:#x}",
                scan.access_op == abi::ioctls::access_op::clear ? "clear" : "set",
                scan.first_gfn,
                scan.page_count));
        }
        return fails ? -EIO : 0;
    }
    void* map(int, std::size_t, std::uint64_t, int& error) noexcept override {
        error = ENODEV;
        return nullptr;
    }
    void unmap(void*, std::size_t) noexcept override {}
    void close(int) noexcept override {}

private:
    void note_hypercall(const abi::ioctls::RootHvcall& call) {
        if (call.code == abi::hypercalls::set_partition_property) {
            abi::hypercalls::SetProperty input;
            std::memcpy(&input, reinterpret_cast<const void*>(call.input), sizeof(input));
            CHECK(input.code == abi::properties::gpa_page_access_tracking);
            calls.push_back(fmt::format("track {}", input.value));
            return;
        }
        REQUIRE(call.code == abi::hypercalls::get_gpa_pages_access_states);
        abi::hypercalls::GetGpaPagesAccessStates input;
        std::memcpy(&input, reinterpret_cast<const void*>(call.input), sizeof(input));
        CHECK(input.flags == 0);
        calls.push_back(fmt::format("peek {:#x}+{:#x}", input.first_gfn, call.reps));
        auto* const states = reinterpret_cast<std::uint8_t*>(call.output);
        std::memset(states, abi::hypercalls::gpa_access_state::dirty, call.reps);
        states[call.reps - 1] |= abi::hypercalls::gpa_access_state::accessed;
    }
};

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

struct Fixture {
    Fixture() {
        const std::vector<MemoryRegion> regions{
            {low, nullptr, formats::Bytes{0}}, {high, nullptr, formats::Bytes{0}}};
        log.cover(regions);
    }
    std::vector<std::string> taken() { return std::exchange(transcript.calls, {}); }

    PageRange low = pages(0, 0x12000);
    PageRange high = pages(0x100000, 0x200);
    Transcript transcript;
    Descriptor partition{transcript, 7};
    DirtyLog log{partition};
    std::vector<std::uint64_t> bitmap = std::vector<std::uint64_t>(0x12000 / 64);
};

using Calls = std::vector<std::string>;

} // namespace

TEST_SUITE("vmm.mshv_dirty_log") {

    TEST_CASE("a start forgets what was before it, over all of memory") {
        Fixture f;
        CHECK(f.log.start());
        CHECK(
            f.taken() ==
            Calls{"track 1", "clear 0x0+0x10000", "clear 0x10000+0x2000", "clear 0x100000+0x200"});
        CHECK(f.log.start().error().code() == ErrorCode::wrong_state);
    }

    TEST_CASE("an end sets every bit first, and is one when it is repeated") {
        Fixture f;
        REQUIRE(f.log.start());
        f.taken();
        CHECK(f.log.stop());
        CHECK(
            f.taken() ==
            Calls{"set 0x0+0x10000", "set 0x10000+0x2000", "set 0x100000+0x200", "track 0"});
        CHECK(f.log.stop());
        CHECK(f.taken().empty());
    }

    TEST_CASE("a start that fails half-way ends the record") {
        Fixture f;
        f.transcript.fail_at = 2;
        CHECK_FALSE(f.log.start()); // and neither does the end, as long as the kernel fails
        f.transcript.fail_at = ~std::size_t{0};
        f.taken();
        CHECK(f.log.stop());
        CHECK(f.taken().back() == "track 0");
        CHECK(f.log.start());
    }

    TEST_CASE("an end that fails leaves the record on, to be ended again") {
        Fixture f;
        REQUIRE(f.log.start());
        f.taken();
        f.transcript.fail_at = 1;
        CHECK_FALSE(f.log.stop());
        f.transcript.fail_at = ~std::size_t{0};
        f.taken();
        CHECK(f.log.stop());
        CHECK(f.taken().size() == 4);
    }

    TEST_CASE("a batch that fails fails the region: its bits are lost") {
        Fixture f;
        REQUIRE(f.log.start());
        f.taken();
        f.transcript.fail_at = 1;
        CHECK_FALSE(f.log.fetch(f.low, f.bitmap));
        CHECK(f.taken() == Calls{"clear 0x0+0x10000", "clear 0x10000+0x2000"});
    }

    TEST_CASE("accessed pages are looked at without the ioctl that would change them") {
        Fixture f;
        REQUIRE(f.log.start());
        f.taken();
        CHECK(f.log.peek_accessed(f.high, f.bitmap));
        CHECK(f.taken() == Calls{"peek 0x100000+0x200"});
        CHECK(f.bitmap[0x1ff / 64] == std::uint64_t{1} << 63U);
        CHECK(f.bitmap[0] == 0); // dirty alone is not accessed
        CHECK(f.log.peek_accessed(f.low, f.bitmap));
        CHECK(f.taken().size() == 0x12000 / 4095 + 1);
    }

    TEST_CASE("parts of regions, and bitmaps too short, are refused") {
        Fixture f;
        CHECK_FALSE(f.log.fetch(f.low, f.bitmap)); // not started
        REQUIRE(f.log.start());
        CHECK_FALSE(f.log.fetch(pages(0, 64), f.bitmap));
        CHECK_FALSE(f.log.fetch(f.low, std::span{f.bitmap}.first(100)));
    }
}
