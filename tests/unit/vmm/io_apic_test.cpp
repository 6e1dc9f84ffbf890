// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/io_apic.hpp"

#include "formats/little_endian.hpp"
#include "tests/unit/vmm/recording_partition.hpp"
#include "vmm/little_endian.hpp"

#include <array>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;

namespace {

constexpr std::uint64_t masked = 1U << 16U, level = 1U << 15U;

struct Fixture {
    tests::RecordingPartition partition;
    std::vector<std::string> failures;
    vmm::IoApic apic{partition, [this](const auto& error) {
                         failures.push_back(error.text());
                     }};

    void write(std::uint8_t index, std::uint32_t value) {
        std::array<std::byte, 4> bytes{};
        formats::store_little<std::uint32_t>(bytes, 0, index);
        apic.write(0x00, bytes);
        formats::store_little(bytes, 0, value);
        apic.write(0x10, bytes);
    }
    std::uint32_t read(std::uint8_t index) {
        std::array<std::byte, 4> bytes{};
        formats::store_little<std::uint32_t>(bytes, 0, index);
        apic.write(0x00, bytes);
        apic.read(0x10, bytes);
        return vmm::load_le<std::uint32_t>(bytes, 0).value();
    }
    void program(std::uint8_t pin, std::uint64_t entry) {
        write(static_cast<std::uint8_t>(0x11 + 2 * pin), static_cast<std::uint32_t>(entry >> 32U));
        write(static_cast<std::uint8_t>(0x10 + 2 * pin), static_cast<std::uint32_t>(entry));
    }
};

} // namespace

TEST_SUITE("vmm.io_apic") {
    TEST_CASE_FIXTURE(Fixture, "it says 24 pins, version 0x20, all masked") {
        CHECK(read(1) == 0x00170020);
        for (unsigned pin = 0; pin < 24; ++pin) {
            CHECK(read(static_cast<std::uint8_t>(0x10 + 2 * pin)) == masked);
        }
        CHECK(read(0x10 + 48) == 0);
    }

    TEST_CASE_FIXTURE(Fixture, "an edge sends one message to the entry's destination") {
        program(4, 0x31 | (std::uint64_t{3} << 56U));
        apic.line(4).set_level(true);
        apic.line(4).set_level(true);
        REQUIRE(partition.sent.size() == 1);
        CHECK(partition.sent[0].address == 0xfee03000);
        CHECK(partition.sent[0].data == 0x31);
        apic.line(4).set_level(false);
        apic.line(4).set_level(true);
        CHECK(partition.sent.size() == 2);
    }

    TEST_CASE_FIXTURE(Fixture, "an edge at a masked pin is lost") {
        program(4, 0x31 | masked);
        apic.line(4).set_level(true);
        program(4, 0x31);
        CHECK(partition.sent.empty());
    }

    TEST_CASE_FIXTURE(Fixture, "a level is delivered again after its end while it is high") {
        program(9, 0x41 | level);
        apic.line(9).set_level(true);
        apic.line(9).set_level(true);
        REQUIRE(partition.sent.size() == 1);
        CHECK(partition.sent[0].data == (0x41 | level | 1U << 14U));
        CHECK((read(0x10 + 18) & 1U << 14U) != 0);
        apic.end_of_interrupt(0x40);
        CHECK(partition.sent.size() == 1);
        apic.end_of_interrupt(0x41);
        CHECK(partition.sent.size() == 2);
        apic.line(9).set_level(false);
        apic.end_of_interrupt(0x41);
        CHECK(partition.sent.size() == 2);
        CHECK((read(0x10 + 18) & 1U << 14U) == 0);
    }

    TEST_CASE_FIXTURE(Fixture, "the EOI register ends an interrupt like the local APIC") {
        program(9, 0x41 | level);
        apic.line(9).set_level(true);
        const std::array vector{std::byte{0x41}, std::byte{0}, std::byte{0}, std::byte{0}};
        apic.write(0x40, vector);
        CHECK(partition.sent.size() == 2);
    }

    TEST_CASE_FIXTURE(Fixture, "a level that rose while masked is delivered on unmasking") {
        program(9, 0x41 | level | masked);
        apic.line(9).set_level(true);
        CHECK(partition.sent.empty());
        program(9, 0x41 | level);
        CHECK(partition.sent.size() == 1);
    }

    TEST_CASE_FIXTURE(Fixture, "remote IRR is the chip's own and goes with the level mode") {
        program(9, 0x41 | level | 1U << 14U | 1U << 12U);
        CHECK(read(0x10 + 18) == (0x41 | level));
        apic.line(9).set_level(true);
        CHECK(read(0x10 + 18) == (0x41 | level | 1U << 14U));
        program(9, 0x41 | masked);
        CHECK(read(0x10 + 18) == (0x41 | masked));
    }

    TEST_CASE_FIXTURE(Fixture, "routes are told when a message changes and only then") {
        program(4, 0x31 | masked);
        const std::size_t before = partition.routes.size();
        program(4, 0x31);
        CHECK(partition.routes.size() == before);
        program(4, 0x32);
        REQUIRE(partition.routes.size() == before + 1);
        REQUIRE(partition.routes.back().size() == 24);
        CHECK(partition.routes.back()[4].data == 0x32);
    }

    TEST_CASE_FIXTURE(Fixture, "logical lowest priority sets destination mode and hint") {
        const auto message = vmm::message_of(0x51 | 0x100 | 0x800 | (std::uint64_t{0x0f} << 56U));
        CHECK(message.address == 0xfee0f00c);
        CHECK(message.data == 0x151);
    }

    TEST_CASE_FIXTURE(Fixture, "state moves to another controller, which knows the routes") {
        program(4, 0x31);
        program(9, 0x41 | level);
        apic.line(9).set_level(true);
        write(0, 0x05000000);
        const auto state = apic.save();
        REQUIRE(state);

        Fixture other;
        REQUIRE(other.apic.restore(*state));
        REQUIRE(other.apic.resume());
        CHECK(other.partition.sent.empty()); // in service on the CPU already
        REQUIRE(other.partition.routes.size() == 1);
        CHECK(other.partition.routes[0][4].data == 0x31);
        CHECK(other.read(0) == 0x05000000);
        other.apic.end_of_interrupt(0x41);
        CHECK(other.partition.sent.size() == 1);
        const auto again = other.apic.save();
        REQUIRE(again);
        other.write(0, 0x05000000);
        CHECK(other.apic.save()->bytes.size() == state->bytes.size());
    }

    TEST_CASE_FIXTURE(Fixture, "state of another version or size is refused") {
        auto state = *apic.save();
        state.version = 2;
        CHECK_FALSE(apic.restore(state));
        state = *apic.save();
        state.bytes.pop_back();
        CHECK_FALSE(apic.restore(state));
    }

    TEST_CASE_FIXTURE(Fixture, "a refused interrupt is reported with its pin") {
        program(4, 0x31);
        partition.refuses = true;
        apic.line(4).set_level(true);
        REQUIRE(failures.size() == 1);
        CHECK(failures[0].contains("pin 4"));
    }

    TEST_CASE_FIXTURE(Fixture, "accesses of odd sizes and places do nothing") {
        program(4, 0x31);
        std::array<std::byte, 8> wide{};
        wide[0] = std::byte{0x18};
        apic.write(0x00, std::span{wide}.first(1));
        apic.write(0x10, std::span{wide}.first(2));
        CHECK(read(0x18) == 0x31);
        apic.read(0x30, wide);
        CHECK(wide == std::array<std::byte, 8>{});
    }
}
