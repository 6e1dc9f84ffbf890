// SPDX-License-Identifier: Apache-2.0
#include "mshvsim_client.hpp"

#include <cstring>

#include <doctest/doctest.h>

using namespace mshvsim_test;
namespace messages = abi::messages;
namespace registers = abi::registers;

namespace {

constexpr std::uint16_t entry = 0x1000;
constexpr std::uint64_t device_gpa = 0x80000;

messages::Message run_once(Client& client) {
    messages::Message message;
    REQUIRE(client.run(message) == 0);
    return message;
}

messages::MemoryIntercept memory_exit(Client& client, std::uint32_t type = messages::unmapped_gpa) {
    const auto message = run_once(client);
    REQUIRE(message.type == type);
    return messages::payload_as<messages::MemoryIntercept>(message);
}

/// Real-mode code at 0x1000 with DS and ES at the unmapped page 0x80000.
struct Guest {
    std::unique_ptr<Client> client;
    HostMemory memory{16};
    explicit Guest(std::string_view test, std::initializer_list<int> code)
        : client{Client::open(test)} {
        if (client == nullptr) {
            return;
        }
        memory.put(entry, code);
        REQUIRE(client->map(memory, 0) == 0);
        client->start_at(entry);
        abi::SegmentValue data{
            .base = device_gpa, .limit = 0xffff, .selector = 0x8000, .attributes = 0x93};
        REQUIRE(
            client
                ->set({{registers::ds, abi::value_of(data)}, {registers::es, abi::value_of(data)}})
                .status == 0);
    }
};

} // namespace

TEST_SUITE("mshvsim.run") {
    TEST_CASE("port output shows the state before the instruction, and goes on after it") {
        Guest guest{
            "mshvsim.run port output",
            {0xba, 0xf8, 0x03, 0x00, 0xd8, 0x04, '0', 0xee, 0xb0, 0x00, 0xee, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        client.set(registers::rax, 2);
        client.set(registers::rbx, 2);
        auto message = run_once(client);
        REQUIRE(message.type == messages::io_port);
        auto io = messages::payload_as<messages::IoPortIntercept>(message);
        CHECK(io.rax == 0x34);
        CHECK(io.port == 0x3f8);
        CHECK((io.access_info & messages::io_access::size) == 1);
        CHECK((io.access_info & messages::io_access::string) == 0);
        CHECK(io.header.access == messages::intercept_access::write);
        CHECK(io.header.rip == entry + 7);
        CHECK(io.header.instruction_length() == 1);
        CHECK(client.page->rip == entry + 7);
        CHECK(client.get(registers::intercept_suspend).low == 1);
        client.page->rip = entry + 8;
        client.page->dirty = abi::register_page_dirty::rip;
        message = run_once(client);
        io = messages::payload_as<messages::IoPortIntercept>(message);
        CHECK(io.header.rip == entry + 10);
        CHECK(io.rax == 0);
        CHECK(client.page->dirty == 0);
    }

    TEST_CASE("port input leaves the registers as they were, and tells the length") {
        Guest guest{"mshvsim.run port input", {0x66, 0xe5, 0x71, 0xe4, 0x60, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        client.set(registers::rax, 0x1122334455667788);
        auto io = messages::payload_as<messages::IoPortIntercept>(run_once(client));
        CHECK(io.port == 0x71);
        CHECK((io.access_info & messages::io_access::size) == 4);
        CHECK(io.header.access == messages::intercept_access::read);
        CHECK(io.header.rip == entry);
        CHECK(io.header.instruction_length() == 3);
        CHECK(client.get(registers::rax).low == 0x1122334455667788);
        client.set(registers::rip, entry + 3);
        io = messages::payload_as<messages::IoPortIntercept>(run_once(client));
        CHECK(io.port == 0x60);
        CHECK(io.header.instruction_length() == 2);
    }

    TEST_CASE("string input and output come as one intercept with the whole count") {
        // rep outsb from ds:si, then rep insw to es:di; ds and es are RAM here.
        Guest guest{"mshvsim.run strings", {0xf3, 0x6e, 0xf3, 0x6d, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        const abi::SegmentValue flat{.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x93};
        client.set(
            {{registers::ds, abi::value_of(flat)},
             {registers::es, abi::value_of(flat)},
             {registers::rdx, {0x3f8, 0}},
             {registers::rcx, {5, 0}},
             {registers::rsi, {0x2000, 0}},
             {registers::rdi, {0x3000, 0}}});
        guest.memory.put(0x2000, {1, 2, 3, 4, 5});
        guest.memory.put(0x3000, {0xa1, 0xa2, 0xa3, 0xa4});
        auto io = messages::payload_as<messages::IoPortIntercept>(run_once(client));
        CHECK(io.access_info == (1 | messages::io_access::string | messages::io_access::rep));
        CHECK(io.rcx == 5);
        CHECK(io.rsi == 0x2000);
        CHECK(io.header.rip == entry);
        CHECK(io.header.instruction_length() == 2);
        CHECK(client.get(registers::rcx).low == 5);
        client.set({{registers::rip, {entry + 2, 0}}, {registers::rcx, {2, 0}}});
        io = messages::payload_as<messages::IoPortIntercept>(run_once(client));
        CHECK(io.access_info == (2 | messages::io_access::string | messages::io_access::rep));
        CHECK(io.header.access == messages::intercept_access::read);
        CHECK(io.rcx == 2);
        CHECK(io.rdi == 0x3000);
        CHECK(io.header.rip == entry + 2);
        CHECK(client.get(registers::rdi).low == 0x3000);
        CHECK(guest.memory.at(0x3000)[0] == std::byte{0xa1});
        CHECK(guest.memory.at(0x3000)[3] == std::byte{0xa4});
    }

    TEST_CASE("a load from nowhere is an intercept before it, with address and code") {
        // mov al,[0x123]; add [0x40],eax with 66
        Guest guest{"mshvsim.run load", {0xa0, 0x23, 0x01, 0x66, 0x01, 0x06, 0x40, 0x00, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        client.set(registers::rax, 0x55667788);
        auto exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x123);
        CHECK(exit.gva == device_gpa + 0x123);
        CHECK(exit.header.access == messages::intercept_access::read);
        CHECK(exit.header.rip == entry);
        CHECK(exit.instruction_byte_count == 16);
        CHECK(exit.instruction_bytes[0] == 0xa0);
        CHECK(client.get(registers::rax).low == 0x55667788);
        client.set(registers::rip, entry + 3);
        const auto flags = client.get(registers::rflags);
        exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x40);
        CHECK(exit.header.access == messages::intercept_access::write);
        CHECK(exit.header.rip == entry + 3);
        CHECK(client.get(registers::rflags) == flags);
    }

    TEST_CASE("a store to nowhere is an intercept before it") {
        // mov [si+4],al; mov dword [bx],imm32; push es (to RAM); mov [di],ax
        Guest guest{
            "mshvsim.run store",
            {0x88, 0x44, 0x04, 0x66, 0xc7, 0x07, 0x11, 0x22, 0x33, 0x44, 0x06, 0x89, 0x05, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        client.set(
            {{registers::rsi, {0x100, 0}},
             {registers::rbx, {0x200, 0}},
             {registers::rdi, {0x300, 0}},
             {registers::rsp, {0x4000, 0}},
             {registers::rax, {0xabcd, 0}}});
        auto exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x104);
        CHECK(exit.header.access == messages::intercept_access::write);
        CHECK(exit.header.rip == entry);
        CHECK(client.page->rip == entry);
        client.set(registers::rip, entry + 3);
        exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x200);
        CHECK(exit.header.rip == entry + 3);
        client.set(registers::rip, entry + 10);
        exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x300);
        CHECK(exit.header.rip == entry + 11);
        CHECK(client.get(registers::rsp).low == 0x3ffe);
    }

    TEST_CASE("string stores and moves to nowhere show the count of before") {
        // rep stosw; movsb; rep movsb from RAM
        Guest guest{"mshvsim.run rep", {0xf3, 0xab, 0xa4, 0xf3, 0xa4, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        client.set({{registers::rcx, {3, 0}}, {registers::rdi, {0x10, 0}}});
        auto exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x10);
        CHECK(exit.header.rip == entry);
        CHECK(client.get(registers::rcx).low == 3);
        CHECK(client.get(registers::rdi).low == 0x10);
        const abi::SegmentValue flat{.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x93};
        client.set(
            {{registers::ds, abi::value_of(flat)},
             {registers::rip, {entry + 2, 0}},
             {registers::rsi, {0x2000, 0}}});
        exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x10);
        CHECK(exit.header.access == messages::intercept_access::write);
        CHECK(exit.header.rip == entry + 2);
        CHECK(client.get(registers::rsi).low == 0x2000);
        client.set({{registers::rip, {entry + 3, 0}}, {registers::rcx, {1, 0}}});
        exit = memory_exit(client);
        CHECK(exit.header.rip == entry + 3);
        CHECK(client.get(registers::rcx).low == 1);
        CHECK(client.get(registers::rdi).low == 0x10);
    }

    TEST_CASE("a move from nowhere to RAM leaves RAM as it was") {
        Guest guest{"mshvsim.run movs", {0xf3, 0xa5, 0xf4}};
        if (guest.client == nullptr) {
            return;
        }
        auto& client = *guest.client;
        const abi::SegmentValue flat{.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x93};
        client.set(
            {{registers::es, abi::value_of(flat)},
             {registers::rcx, {4, 0}},
             {registers::rsi, {0x20, 0}},
             {registers::rdi, {0x3000, 0}}});
        guest.memory.put(0x3000, {1, 2, 3, 4});
        const auto exit = memory_exit(client);
        CHECK(exit.gpa == device_gpa + 0x20);
        CHECK(exit.header.access == messages::intercept_access::read);
        CHECK(client.get(registers::rcx).low == 4);
        CHECK(client.get(registers::rdi).low == 0x3000);
        CHECK(guest.memory.at(0x3000)[0] == std::byte{1});
        CHECK(guest.memory.at(0x3000)[1] == std::byte{2});
        CHECK(guest.memory.at(0x3000)[2] == std::byte{3});
    }
}
