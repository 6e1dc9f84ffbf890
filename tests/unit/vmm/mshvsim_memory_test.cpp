// SPDX-License-Identifier: Apache-2.0
#include "mshvsim_client.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace mshvsim_test;
namespace messages = abi::messages;
namespace registers = abi::registers;
namespace access_op = abi::ioctls::access_op;
namespace access_type = abi::ioctls::access_type;

namespace {

constexpr std::uint16_t entry = 0x1000;
constexpr std::size_t window = 512;

/// mov [0x2000 in DS],al; out dx,al
void put_store(const HostMemory& code) {
    code.put(entry, {0xa2, 0x00, 0x20, 0xee, 0xf4});
}

abi::RegisterValue data_at(std::uint64_t base) {
    return abi::value_of(
        abi::SegmentValue{.base = base, .limit = 0xffff, .selector = 0, .attributes = 0x93});
}

std::size_t count(const std::vector<bool>& pages) {
    return static_cast<std::size_t>(std::ranges::count(pages, true));
}

} // namespace

TEST_SUITE("mshvsim.memory") {
    TEST_CASE("a first touch brings in the window of 512 pages that holds it, and no more") {
        const auto client = Client::open("mshvsim.memory first touch");
        if (client == nullptr) {
            return;
        }
        const HostMemory code{2};
        const HostMemory data{window + 100};
        put_store(code);
        REQUIRE(client->map(code, 0) == 0);
        REQUIRE(client->map(data, 0x100) == 0);
        CHECK(data.resident_pages() == 0);
        client->start_at(entry);
        client->set({{registers::ds, data_at(0x100000 + 0x1fe000)}, {registers::rax, {0x5a, 0}}});
        messages::Message message;
        REQUIRE(client->run(message) == 0);
        CHECK(message.type == messages::io_port);
        CHECK(data.at(0x200000)[0] == std::byte{0x5a});
        CHECK(data.resident_pages() == 100); // the second window, counted from the region's start
    }

    TEST_CASE("a pinned kernel brings in everything when it is mapped, and refuses aliases") {
        const auto client = Client::open("mshvsim.memory pinned", Personality::v6_18);
        if (client == nullptr) {
            return;
        }
        const HostMemory data{64};
        REQUIRE(client->map(data, 0x100) == 0);
        CHECK(data.resident_pages() == 64);
        CHECK(client->map(data, 0x900) == -EEXIST);
    }

    TEST_CASE("a write to memory without write access is a GPA intercept") {
        const auto client = Client::open("mshvsim.memory read-only");
        if (client == nullptr) {
            return;
        }
        const HostMemory code{3};
        put_store(code);
        REQUIRE(client->map(code, 0, abi::ioctls::memory_flags::executable) == 0);
        client->start_at(entry);
        client->set(registers::rax, 0x5a);
        messages::Message message;
        REQUIRE(client->run(message) == 0);
        REQUIRE(message.type == messages::gpa_intercept);
        const auto exit = messages::payload_as<messages::MemoryIntercept>(message);
        CHECK(exit.gpa == 0x2000);
        CHECK(exit.header.access == messages::intercept_access::write);
        CHECK(exit.header.rip == entry);
        CHECK(code.at(0x2000)[0] == std::byte{0});
    }

    TEST_CASE("the log tells what was written since it was cleared") {
        const auto client = Client::open("mshvsim.memory log");
        if (client == nullptr) {
            return;
        }
        const HostMemory code{16};
        put_store(code);
        REQUIRE(client->map(code, 0) == 0);
        client->start_at(entry);
        client->set(registers::rax, 1);
        const auto dirty = [&client](std::uint8_t op) {
            return client->access(access_type::dirty, op, 0, 16);
        };
        REQUIRE(client->set_property(abi::properties::gpa_page_access_tracking, 1).status == 0);
        dirty(access_op::clear);
        messages::Message message;
        REQUIRE(client->run(message) == 0);
        CHECK(message.type == messages::io_port);
        const auto written = dirty(access_op::clear);
        CHECK(written[2]);
        CHECK(count(written) == 1);
        code.at(0x5000)[0] = std::byte{1}; // the host's writes are not the guest's
        CHECK(count(dirty(access_op::clear)) == 0);
        CHECK(
            client->set_property(abi::properties::gpa_page_access_tracking, 0).status ==
            abi::status::operation_denied);
        CHECK(count(dirty(access_op::noop)) == 0);
        CHECK(count(dirty(access_op::noop)) == 16); // Linux 7.2 executes it as set
        CHECK(client->set_property(abi::properties::gpa_page_access_tracking, 0).status == 0);
    }

    TEST_CASE("a signal ends RUN_VP, and the guest goes on afterwards") {
        const auto client = Client::open("mshvsim.memory signal");
        if (client == nullptr) {
            return;
        }
        const HostMemory code{2};
        code.put(entry, {0xf4, 0xeb, 0xfd}); // hlt, for ever
        REQUIRE(client->map(code, 0) == 0);
        client->start_at(entry);
        struct sigaction action{};
        action.sa_handler = [](int) {
        };
        REQUIRE(::sigaction(SIGUSR2, &action, nullptr) == 0);
        std::atomic<bool> is_out = false;
        int result = 0;
        std::thread runner{[&] {
            messages::Message message;
            result = client->run(message);
            is_out = true;
        }};
        while (!is_out) { // one that comes before the call is lost, as it is with the kernel
            ::pthread_kill(runner.native_handle(), SIGUSR2);
            std::this_thread::yield();
        }
        runner.join();
        CHECK(result == -EINTR);
        CHECK(client->get(registers::explicit_suspend).low == 1);
        CHECK(client->get(registers::intercept_suspend).low == 0);
    }
}

TEST_SUITE("mshvsim.userfault") {
    TEST_CASE(
        "a page that userfaultfd holds back is an intercept with 7.2, of a run that repeats") {
        const auto client = Client::open("mshvsim.userfault 7.2");
        if (client == nullptr) {
            return;
        }
        const int monitor = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
        if (monitor < 0) {
            fmt::print("SKIPPED: mshvsim.userfault 7.2: no userfaultfd here\n");
            return;
        }
        constexpr std::uint64_t cr4_osfxsr = 0x200;
        const HostMemory code{2};
        const HostMemory data{4};
        std::byte stored{0};
        SUBCASE("a store") {
            put_store(code);
            stored = std::byte{0x77};
        }
        bool is_always_executed = true;
        SUBCASE("a load that KVM's emulator does not know") {
            if (std::getenv("MSHVSIM_TEST_ENGINE") != nullptr) {
                return; // it is about KVM
            }
            // por xmm0,[0x2000 in DS]; out dx,al
            code.put(entry, {0x66, 0x0f, 0xeb, 0x06, 0x00, 0x20, 0xee, 0xf4});
            is_always_executed = false; // some hosts emulate all of real mode
        }
        uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
        REQUIRE(::ioctl(monitor, UFFDIO_API, &api) == 0);
        uffdio_register watched{};
        watched.range = {std::bit_cast<std::uint64_t>(data.at()), data.size()};
        watched.mode = UFFDIO_REGISTER_MODE_MISSING;
        REQUIRE(::ioctl(monitor, UFFDIO_REGISTER, &watched) == 0);
        REQUIRE(client->map(code, 0) == 0);
        REQUIRE(client->map(data, 0x100) == 0);
        client->start_at(entry);
        client->set(
            {{registers::ds, data_at(0x100000)},
             {registers::rax, {0x77, 0}},
             {registers::cr4, {cr4_osfxsr, 0}}});
        for (int again = 0; again < 2; ++again) {
            messages::Message message;
            REQUIRE(client->run(message) == 0);
            REQUIRE(message.type == messages::gpa_intercept);
            const auto exit = messages::payload_as<messages::MemoryIntercept>(message);
            CHECK(exit.gpa == 0x102000);
            CHECK(exit.header.rip == entry);
        }
        uffd_msg event{};
        CHECK(::read(monitor, &event, sizeof(event)) == -1); // nobody was told
        uffdio_zeropage fill{};
        fill.range = watched.range;
        REQUIRE(::ioctl(monitor, UFFDIO_ZEROPAGE, &fill) == 0);
        messages::Message message;
        REQUIRE(client->run(message) == 0);
        if (is_always_executed || message.type != messages::unsupported_feature) {
            CHECK(message.type == messages::io_port);
        }
        CHECK(data.at(0x2000)[0] == stored);
        ::close(monitor);
    }
}
