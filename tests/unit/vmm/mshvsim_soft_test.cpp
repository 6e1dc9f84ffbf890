// SPDX-License-Identifier: Apache-2.0
#include "mshvsim_client.hpp"
#include "vmm/mshvsim/engine.hpp"

#include <bit>
#include <cerrno>
#include <cstring>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sys/eventfd.h>
#include <unistd.h>

using namespace mshvsim_test;
namespace hypercalls = abi::hypercalls;
namespace ioctls = abi::ioctls;
namespace messages = abi::messages;
namespace mshvsim = wherry::vmm::mshvsim;
namespace registers = abi::registers;

namespace {

constexpr std::uint16_t entry = 0x1000;
constexpr const char* no_device = "/nonexistent/kvm";

/// Real-mode code at 0x1000 in 64 KiB of RAM at 0.
struct Guest {
    std::unique_ptr<Client> client;
    HostMemory memory{16};
    Guest(std::string_view test, std::initializer_list<int> code)
        : client{Client::open(test, Personality::v7_2, EngineChoice::soft)} {
        if (client != nullptr) {
            memory.put(entry, code);
            REQUIRE(client->map(memory, 0) == 0);
            client->start_at(entry);
        }
    }
    messages::Message run() {
        messages::Message message;
        REQUIRE(client->run(message) == 0);
        return message;
    }
};

void put_number(const HostMemory& memory, std::size_t at, std::uint64_t value) {
    std::memcpy(memory.at(at), &value, sizeof(value));
}

/// 64-bit code at 0x1000 under tables at 0x4000, 0x5000, 0x6000 and, for small pages, 0x7000.
void start_long_mode(Guest& guest) {
    put_number(guest.memory, 0x4000, 0x5003);
    put_number(guest.memory, 0x5000, 0x6003);
    put_number(guest.memory, 0x6000, 0x7003);
    for (std::uint64_t page = 0; page < 16; ++page) {
        put_number(guest.memory, 0x7000 + 8 * page, (page << 12U) | 3U);
    }
    const abi::SegmentValue code{.limit = 0xffffffff, .selector = 8, .attributes = 0xa09b};
    const abi::SegmentValue data{.limit = 0xffffffff, .selector = 16, .attributes = 0xc093};
    const auto answer = guest.client->set(
        {{registers::cs, abi::value_of(code)},
         {registers::ss, abi::value_of(data)},
         {registers::ds, abi::value_of(data)},
         {registers::efer, {0x500, 0}},
         {registers::intermediate_cr4, {0x20, 0}},
         {registers::intermediate_cr3, {0x4000, 0}},
         {registers::intermediate_cr0, {0x80000011, 0}}});
    REQUIRE(answer.status == 0);
}

std::uint64_t unsupported_parameter(const messages::Message& message) {
    REQUIRE(message.type == messages::unsupported_feature);
    return messages::payload_as<messages::UnsupportedFeature>(message).parameter;
}

} // namespace

TEST_SUITE("mshvsim.soft") {
    TEST_CASE("without /dev/kvm the soft engine is taken, and kvm alone says what is missing") {
        const auto soft = mshvsim::open_engine(EngineChoice::soft, no_device);
        const auto found = mshvsim::open_engine(EngineChoice::automatic, no_device);
        if (soft) {
            REQUIRE(found);
            CHECK_FALSE((*found)->capabilities().has_lapic);
            CHECK((*found)->capabilities().max_vcpus == 1);
        } else {
            fmt::print("SKIPPED: mshvsim.soft fallback: {}\n", soft.error().text());
            REQUIRE_FALSE(found);
            CHECK(found.error().text().find("soft: ") != std::string::npos);
        }
        const auto kvm = mshvsim::open_engine(EngineChoice::kvm, no_device);
        REQUIRE_FALSE(kvm);
        CHECK(kvm.error().text().find(no_device) != std::string::npos);
    }

    TEST_CASE("kvm is taken where it opens") {
        const auto kvm = mshvsim::open_engine(EngineChoice::kvm);
        if (!kvm) {
            fmt::print("SKIPPED: mshvsim.soft kvm first: {}\n", kvm.error().text());
            return;
        }
        const auto found = mshvsim::open_engine(EngineChoice::automatic);
        REQUIRE(found);
        CHECK((*found)->capabilities().has_lapic);
    }

    TEST_CASE("what interrupts a guest, and a second VP, are refused") {
        const Guest guest{"mshvsim.soft refusals", {0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        ioctls::CreatePartitionV1 with_apic{.flags = 0x7, .isolation = 0};
        CHECK(client.calls().ioctl(client.device, ioctls::create_partition, &with_apic) == -EIO);
        ioctls::CreateVp second{1};
        CHECK(client.calls().ioctl(client.partition, ioctls::create_vp, &second) == -ENOMEM);
        const hypercalls::AssertVirtualInterrupt interrupt{.control = 0, .vector = 0x30};
        CHECK(
            client
                .hypercall(
                    client.partition, hypercalls::assert_virtual_interrupt, 0, bytes(interrupt))
                .status == abi::status::processor_feature_not_supported);
        const int event = ::eventfd(0, EFD_CLOEXEC);
        ioctls::Irqfd irqfd{.fd = event, .resample_fd = -1, .gsi = 1, .flags = 0};
        CHECK(client.calls().ioctl(client.partition, ioctls::irqfd, &irqfd) == -EIO);
        ::close(event);
        const abi::SegmentValue ring3{.limit = 0xffffffff, .selector = 0x2b, .attributes = 0xc0f3};
        CHECK(
            client.set({{registers::ss, abi::value_of(ring3)}}).status ==
            abi::status::invalid_register_value);
        CHECK(client.set(registers::efer, 0x800).status == abi::status::invalid_register_value);
    }

    TEST_CASE("what could not be run is refused when it is written") {
        Guest guest{"mshvsim.soft refusals", {0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        constexpr std::uint64_t pending = 1;
        constexpr std::uint64_t nmi_masked = 2;
        for (const auto& [name, value] :
             {std::pair{registers::dr7, std::uint64_t{0x401}},
              {registers::pending_interruption, pending | (0x30U << 16U)},
              {registers::pending_event0, pending | (6U << 8U)},
              {registers::interrupt_state, nmi_masked},
              {registers::internal_activity, abi::internal_activity::startup_suspend}}) {
            CAPTURE(name);
            const auto before = client.get(name);
            CHECK(client.set(name, value).status == abi::status::invalid_register_value);
            CHECK(client.get(name) == before);
        }
        CHECK(client.set(registers::interrupt_state, 1).status == 0); // a shadow holds back nothing
        const abi::SegmentValue code{.limit = 0xffff, .selector = 8, .attributes = 0x9b};
        CHECK(
            client.set({{registers::cs, abi::value_of(code)}, {registers::cr0, {0x60000011, 0}}})
                .status == abi::status::invalid_register_value);
        // In the other order and with nothing wrong at the end, the same values pass through it.
        const abi::SegmentValue flat{.limit = 0xffffffff, .selector = 8, .attributes = 0xc09b};
        CHECK(
            client
                .set(
                    {{registers::cr0, {0x60000011, 0}},
                     {registers::cs, abi::value_of(code)},
                     {registers::cs, abi::value_of(flat)}})
                .status == 0);
    }

    TEST_CASE("HLT ends the run behind it, and every run after it") {
        Guest guest{"mshvsim.soft HLT", {0x90, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        for (int again = 0; again < 2; ++again) {
            CHECK(guest.run().type == messages::halt);
            CHECK(guest.client->get(registers::rip).low == entry + 2);
            CHECK(
                guest.client->get(registers::internal_activity).low ==
                abi::internal_activity::halt_suspend);
        }
    }

    TEST_CASE("code that the VMM replaces between runs is seen") {
        Guest guest{"mshvsim.soft replaced code", {0xb0, 0x11, 0xe6, 0x10, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        CHECK(messages::payload_as<messages::IoPortIntercept>(guest.run()).rax == 0x11);
        guest.memory.put(entry + 1, {0x22});
        guest.client->set(registers::rip, entry);
        CHECK(messages::payload_as<messages::IoPortIntercept>(guest.run()).rax == 0x22);
    }

    TEST_CASE("an offset into a code segment that does not begin at 0 stays one") {
        Guest guest{"mshvsim.soft segment", {}};
        if (guest.client == nullptr) {
            return;
        }
        // At 0x200:0x10: mov al, [0x5000] with DS at 0x80000; then out 0x10, al.
        guest.memory.put(0x2010, {0xa0, 0x00, 0x50, 0xe6, 0x10, 0xf4});
        const abi::SegmentValue code{
            .base = 0x2000, .limit = 0xffff, .selector = 0x200, .attributes = 0x9b};
        const abi::SegmentValue data{
            .base = 0x80000, .limit = 0xffff, .selector = 0x8000, .attributes = 0x93};
        guest.client->set(
            {{registers::cs, abi::value_of(code)},
             {registers::ds, abi::value_of(data)},
             {registers::rip, {0x10, 0}}});
        const auto load = messages::payload_as<messages::MemoryIntercept>(guest.run());
        CHECK(load.header.rip == 0x10);
        CHECK(load.gpa == 0x85000);
        guest.client->set(registers::rip, 0x13);
        CHECK(messages::payload_as<messages::IoPortIntercept>(guest.run()).header.rip == 0x13);
    }

    TEST_CASE("a doorbell rings, and the store that rang it goes nowhere else") {
        // mov [0x8000], ax with DS at 0x80000; out 0x10, al
        Guest guest{"mshvsim.soft doorbell", {0xa3, 0x00, 0x80, 0xe6, 0x10, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ioctls::Ioeventfd bell{.address = 0x88000, .length = 2, .fd = event};
        REQUIRE(
            guest.client->calls().ioctl(guest.client->partition, ioctls::ioeventfd, &bell) == 0);
        const abi::SegmentValue data{
            .base = 0x80000, .limit = 0xffff, .selector = 0x8000, .attributes = 0x93};
        guest.client->set({{registers::ds, abi::value_of(data)}});
        const auto message = guest.run();
        REQUIRE(message.type == messages::io_port);
        CHECK(messages::payload_as<messages::IoPortIntercept>(message).header.rip == entry + 3);
        eventfd_t rung = 0;
        CHECK(::eventfd_read(event, &rung) == 0);
        CHECK(rung == 1);
        ::close(event);
    }

    TEST_CASE("an exception is told, for Unicorn delivers none") {
        Guest guest{"mshvsim.soft exception", {0x31, 0xc9, 0xf7, 0xf1}}; // xor cx, cx; div cx
        if (guest.client == nullptr) {
            return;
        }
        CHECK(unsupported_parameter(guest.run()) == 0);
    }

    TEST_CASE("memory that is mapped to another address is told, and tables count as written") {
        // mov [0x9000], al; out 0x10, al; mov [0xa000], al
        Guest guest{
            "mshvsim.soft page tables",
            {0x88,
             0x04,
             0x25,
             0x00,
             0x90,
             0x00,
             0x00,
             0xe6,
             0x10,
             0x88,
             0x04,
             0x25,
             0x00,
             0xa0,
             0x00,
             0x00,
             0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        start_long_mode(guest);
        put_number(guest.memory, 0x7000 + 8 * 0xa, 0xb003);
        REQUIRE(client.set_property(abi::properties::gpa_page_access_tracking, 1).status == 0);
        client.access(ioctls::access_type::dirty, ioctls::access_op::clear, 0, 16);
        REQUIRE(guest.run().type == messages::io_port);
        const auto dirty =
            client.access(ioctls::access_type::dirty, ioctls::access_op::clear, 0, 16);
        for (std::size_t page = 0; page < dirty.size(); ++page) {
            CAPTURE(page);
            CHECK(dirty[page] == ((page >= 4 && page <= 7) || page == 9));
        }
        client.set(registers::rip, entry + 9);
        CHECK(unsupported_parameter(guest.run()) == 0xa000);
    }

    TEST_CASE("an MSR of the hypervisor is read, and one that nobody has is an exception") {
        // mov ecx, 0x40000002; rdmsr; out 0x10, al; mov ecx, 0x1234; rdmsr
        Guest guest{
            "mshvsim.soft MSRs",
            {0x66,
             0xb9,
             0x02,
             0x00,
             0x00,
             0x40,
             0x0f,
             0x32,
             0xe6,
             0x10,
             0x66,
             0xb9,
             0x34,
             0x12,
             0x00,
             0x00,
             0x0f,
             0x32,
             0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        guest.client->set(registers::rax, 0xff);
        guest.client->set_property(abi::properties::unimplemented_msr_action, 1);
        CHECK(messages::payload_as<messages::IoPortIntercept>(guest.run()).rax == 0);
        guest.client->set_property(abi::properties::unimplemented_msr_action, 0);
        guest.client->set(registers::rip, entry + 10);
        constexpr std::uint64_t general_protection = 13;
        CHECK(unsupported_parameter(guest.run()) == general_protection);
    }
}
