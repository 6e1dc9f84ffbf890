// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>

#include <pthread.h>

using namespace wherry::conformance;
namespace messages = abi::messages;
namespace names = abi::registers;

namespace {

/// mov dx, 0x3f8; add al, bl; add al, '0'; out dx, al; mov al, 0; out dx, al
constexpr std::array<std::uint8_t, 12> prints_sum = {
    0xba, 0xf8, 0x03, 0x00, 0xd8, 0x04, '0', 0xee, 0xb0, 0x00, 0xee, 0xf4};

struct GuestBed : VpBed {
    explicit GuestBed(std::span<const std::uint8_t> code) {
        std::ranges::copy(std::as_bytes(code), memory.data());
        REQUIRE(map_memory(partition, memory, 1) == "ok");
        auto cs = abi::read_as<abi::SegmentValue>(get_register(vp, names::cs).value);
        CHECK(cs.base != 0);
        CHECK(cs.selector != 0);
        cs.base = 0;
        cs.selector = 0;
        std::array<hypercalls::RegisterAssociation, 5> registers;
        registers[0] = {.name = names::cs, .value = abi::value_of(cs)};
        registers[1] = {.name = names::rax, .value = {.low = 2}};
        registers[2] = {.name = names::rbx, .value = {.low = 2}};
        registers[3] = {.name = names::rip, .value = {.low = 0x1000}};
        registers[4] = {.name = names::rflags, .value = {.low = 2}};
        REQUIRE(set_registers(vp, registers).outcome == "ok");
    }
    std::string run() { return control(vp, ioctls::run_vp, &message); }
    template <typename Payload>
    [[nodiscard]] Payload payload() const {
        return messages::payload_as<Payload>(message);
    }
    Mapping memory{abi::page_size};
    messages::Message message;
};

} // namespace

TEST_SUITE("mshv.run_vp") {
    TEST_CASE("real-mode code reaches its port writes") {
        GuestBed bed{prints_sum};
        REQUIRE(bed.run() == "ok");
        REQUIRE(bed.message.type == messages::io_port);
        const auto first = bed.payload<messages::IoPortIntercept>();
        CHECK(first.rax == 0x34);
        CHECK(first.port == 0x3f8);
        CHECK((first.access_info & messages::io_access::size) == 1);
        CHECK((first.access_info & messages::io_access::string) == 0);
        CHECK(first.header.access == messages::intercept_access::write);
        CHECK(first.header.rip == 0x1007);
        REQUIRE(set_register(bed.vp, names::rip, {.low = 0x1008, .high = 0}).outcome == "ok");
        REQUIRE(bed.run() == "ok");
        REQUIRE(bed.message.type == messages::io_port);
        CHECK(bed.payload<messages::IoPortIntercept>().rax == 0);
    }

    TEST_CASE("the pages of a VP show the exit, and take RIP from it") {
        GuestBed bed{prints_sum};
        const Mapping page{bed.vp, abi::page_size, ioctls::vp_mapping::register_page};
        const Mapping live{bed.vp, abi::page_size, ioctls::vp_mapping::message_page};
        REQUIRE((page.outcome() == "ok" && live.outcome() == "ok"));
        REQUIRE(bed.run() == "ok");
        CHECK(std::memcmp(live.data(), &bed.message, sizeof(bed.message)) == 0);
        auto* const registers = reinterpret_cast<abi::RegisterPage*>(page.data());
        CHECK(registers->rip == 0x1007);
        CHECK(registers->general[0] == 0x34);
        registers->rip += 1;
        registers->dirty = abi::register_page_dirty::rip;
        REQUIRE(bed.run() == "ok");
        CHECK(registers->dirty == 0);
        CHECK(registers->rip == 0x100a);
        CHECK(bed.payload<messages::IoPortIntercept>().rax == 0);
    }

    TEST_CASE("registers parked on the page outlast a hypercall that writes others") {
        // QEMU 11 completes each exit so: general registers by the page, system registers by 0x51.
        GuestBed bed{prints_sum};
        const Mapping page{bed.vp, abi::page_size, ioctls::vp_mapping::register_page};
        REQUIRE(page.outcome() == "ok");
        REQUIRE(bed.run() == "ok");
        auto* const registers = reinterpret_cast<abi::RegisterPage*>(page.data());
        constexpr std::uint32_t marks =
            abi::register_page_dirty::general | abi::register_page_dirty::rip;
        registers->general[0] = 0x4711;
        registers->rip += 1;
        registers->dirty = marks;
        REQUIRE(set_register(bed.vp, names::cr2, {.low = 0x1234000, .high = 0}).outcome == "ok");
        CHECK(registers->dirty == marks);
        CHECK(registers->general[0] == 0x4711);
        CHECK(registers->rip == 0x1008);
        REQUIRE(bed.run() == "ok");
        CHECK(registers->dirty == 0);
        CHECK(registers->rip == 0x100a);
        CHECK(bed.payload<messages::IoPortIntercept>().rax == 0x4700);
        CHECK(get_register(bed.vp, names::cr2).value.low == 0x1234000);
    }

    TEST_CASE("an access where no memory is tells the guest address") {
        // mov [0x5000], al
        constexpr std::array<std::uint8_t, 3> writes_nowhere = {0xa2, 0x00, 0x50};
        GuestBed bed{writes_nowhere};
        REQUIRE(bed.run() == "ok");
        CHECK(bed.message.type == messages::unmapped_gpa);
        const auto access = bed.payload<messages::MemoryIntercept>();
        CHECK(access.header.access == messages::intercept_access::write);
        std::uint64_t gpa = 0;
        std::memcpy(&gpa, bed.message.payload.data() + 56, sizeof(gpa));
        CHECK(gpa == 0x5000);
    }

    TEST_CASE("a signal with a handler ends RUN_VP with EINTR, and the VP is suspended") {
        constexpr std::array<std::uint8_t, 2> loops = {0xeb, 0xfe};
        GuestBed bed{loops};
        struct sigaction action{};
        action.sa_handler = [](int) {
        };
        ::sigaction(SIGUSR1, &action, nullptr);
        const ::pthread_t runner = ::pthread_self();
        std::atomic<bool> has_returned{false};
        std::thread kicker{[&] {
            // A signal before the ioctl is lost: again until it has worked.
            while (!has_returned) {
                ::pthread_kill(runner, SIGUSR1);
                std::this_thread::sleep_for(std::chrono::milliseconds{10});
            }
        }};
        const std::string outcome = bed.run();
        has_returned = true;
        kicker.join();
        CHECK(outcome == "EINTR");
        CHECK(get_register(bed.vp, names::explicit_suspend).value.low == 1);
        CHECK(get_register(bed.vp, names::rip).value.low == 0x1000);
    }

    TEST_CASE("a bad address is EFAULT") {
        GuestBed bed{prints_sum};
        CHECK(control(bed.vp, ioctls::run_vp, bad_pointer()) == "EFAULT");
    }
}
