// SPDX-License-Identifier: Apache-2.0
#include "vmm/io_bus.hpp"

#include "tests/unit/vmm/tiny_guest.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using formats::Bytes;
using formats::ErrorCode;
using formats::Gpa;
using tests::must;

/// Remembers accesses; reads as its fill byte.
class Probe final : public vmm::Device {
public:
    Probe(std::string name, std::uint8_t fill) : name_{std::move(name)}, fill_{fill} {}
    [[nodiscard]] std::string_view id() const noexcept override { return name_; }
    void read(std::uint64_t offset, std::span<std::byte> data) override {
        accesses.emplace_back(offset, data.size());
        std::ranges::fill(data, std::byte{fill_});
    }
    void write(std::uint64_t offset, std::span<const std::byte> data) override {
        accesses.emplace_back(offset, data.size());
    }
    formats::Status quiesce() override { return {}; }
    [[nodiscard]] formats::Result<vmm::DeviceState> save() const override {
        return vmm::DeviceState{};
    }
    formats::Status restore(const vmm::DeviceState& /*state*/) override { return {}; }
    formats::Status resume() override { return {}; }

    std::vector<std::pair<std::uint64_t, std::size_t>> accesses;

private:
    std::string name_;
    std::uint8_t fill_;
};

} // namespace

TEST_SUITE("vmm.io_bus") {
    TEST_CASE("an access reaches the device of its port, with the offset in the range") {
        Probe first{"first", 0x11};
        Probe second{"second", 0x22};
        vmm::IoBus bus;
        must(bus.attach_ports(0x20, 4, second));
        must(bus.attach_ports(0x10, 0x10, first));
        std::array<std::byte, 2> data{};
        bus.port_read(0x1e, data);
        CHECK(data[0] == std::byte{0x11});
        bus.port_write(0x20, data);
        CHECK(first.accesses == std::vector<std::pair<std::uint64_t, std::size_t>>{{0xe, 2}});
        CHECK(second.accesses == std::vector<std::pair<std::uint64_t, std::size_t>>{{0, 2}});
    }

    TEST_CASE("what no device has whole reads as all ones and is not written") {
        Probe device{"device", 0};
        vmm::IoBus bus;
        must(bus.attach_ports(0x10, 4, device));
        must(bus.attach_memory(Gpa{0x1000}, Bytes{0x100}, device));
        for (const unsigned port : {0x0eU, 0x0fU, 0x13U, 0x14U, 0xffffU}) {
            std::array<std::byte, 2> data{};
            bus.port_read(static_cast<std::uint16_t>(port), data);
            CHECK(data == std::array{std::byte{0xff}, std::byte{0xff}});
            bus.port_write(static_cast<std::uint16_t>(port), data);
        }
        for (const std::uint64_t at : {0xfffULL, 0x10f9ULL, 0x1100ULL, ~0ULL}) {
            std::array<std::byte, 8> data{};
            bus.memory_read(Gpa{at}, data);
            CHECK(data[7] == std::byte{0xff});
            bus.memory_write(Gpa{at}, data);
        }
        CHECK(device.accesses.empty());
    }

    TEST_CASE("ranges that overlap are refused, naming both devices") {
        Probe there{"there", 0};
        Probe late{"late", 0};
        vmm::IoBus bus;
        must(bus.attach_ports(0x10, 0x10, there));
        for (const auto& [first, count] :
             {std::pair{0x0f, 2}, std::pair{0x1f, 1}, std::pair{0x08, 0x40}, std::pair{0x12, 1}}) {
            const auto status = bus.attach_ports(
                static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(count), late);
            REQUIRE_FALSE(status);
            CHECK(status.error().code() == ErrorCode::already_exists);
            CHECK(status.error().text().find("there") != std::string::npos);
            CHECK(status.error().text().find("late") != std::string::npos);
        }
        CHECK(bus.attach_ports(0x20, 1, late));
        CHECK(bus.attach_ports(0x0f, 1, late));
    }

    TEST_CASE("ranges that are empty or leave the address space are refused") {
        Probe device{"device", 0};
        vmm::IoBus bus;
        CHECK_FALSE(bus.attach_ports(0x10, 0, device));
        CHECK_FALSE(bus.attach_ports(0xffff, 2, device));
        CHECK(bus.attach_ports(0xffff, 1, device));
        CHECK_FALSE(bus.attach_memory(Gpa{~0ULL - 1}, Bytes{8}, device));
    }
}
