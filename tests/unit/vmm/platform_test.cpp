// SPDX-License-Identifier: Apache-2.0
#include "vmm/platform.hpp"

#include "formats/little_endian.hpp"
#include "tests/unit/vmm/recording_partition.hpp"
#include "vmm/platform_layout.hpp"

#include <array>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using Cause = vmm::MachineEnd::Cause;

namespace {

struct Fixture {
    tests::RecordingPartition partition;
    std::vector<Cause> ends;
    std::unique_ptr<vmm::Platform> platform = make(partition, ends);

    static std::unique_ptr<vmm::Platform>
    make(vmm::Partition& partition, std::vector<Cause>& ends) {
        auto made = vmm::Platform::create(
            partition, [&ends](const vmm::MachineEnd& end) { ends.push_back(end.cause); });
        REQUIRE(made);
        return *std::move(made);
    }
    void out(std::uint16_t port, unsigned value) const {
        platform->bus().port_write(port, std::array{static_cast<std::byte>(value)});
    }
    void store(formats::Gpa at, std::uint32_t value) const {
        std::array<std::byte, 4> bytes{};
        formats::store_little(bytes, 0, value);
        platform->bus().memory_write(at, bytes);
    }
};

} // namespace

TEST_SUITE("vmm.platform") {
    TEST_CASE_FIXTURE(Fixture, "each way to reset and to power off ends the machine") {
        out(0x600, 0x34);
        out(0x602, 1);
        out(0xcf9, 6);
        out(0x64, 0xfe);
        CHECK(ends == std::vector{Cause::powered_off, Cause::reset, Cause::reset, Cause::reset});
    }

    TEST_CASE_FIXTURE(Fixture, "what guests probe on the way ends nothing") {
        out(0xcf8, 0x80);
        out(0x64, 0x20);
        out(0x70, 0x8f);
        out(0x80, 0xfe);
        CHECK(ends.empty());
        std::array<std::byte, 4> configuration{};
        platform->bus().port_read(0xcfc, configuration);
        CHECK(
            configuration ==
            std::array{std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}});
    }

    TEST_CASE_FIXTURE(Fixture, "a device's line reaches the hypervisor through the IOAPIC") {
        const formats::Gpa window = vmm::platform_layout::io_apic + formats::Bytes{0x10};
        store(vmm::platform_layout::io_apic, 0x10 + 2 * 4);
        store(window, 0x8031); // level, vector 0x31
        auto* line = platform->line(4);
        REQUIRE(line != nullptr);
        line->set_level(true);
        REQUIRE(partition.sent.size() == 1);
        platform->end_of_interrupt(0x31);
        CHECK(partition.sent.size() == 2);
    }

    TEST_CASE_FIXTURE(Fixture, "an interrupt that the hypervisor refuses ends the machine") {
        store(vmm::platform_layout::io_apic, 0x10 + 2 * 4);
        store(vmm::platform_layout::io_apic + formats::Bytes{0x10}, 0x31);
        partition.refuses = true;
        platform->line(4)->set_level(true);
        CHECK(ends == std::vector{Cause::crashed});
    }

    TEST_CASE("without an interrupt controller there are no lines") {
        tests::RecordingPartition partition{false};
        std::vector<Cause> ends;
        const auto platform = Fixture::make(partition, ends);
        CHECK(platform->line(4) == nullptr);
        std::array<std::byte, 4> bytes{};
        platform->bus().memory_read(vmm::platform_layout::io_apic, bytes);
        CHECK(bytes[0] == std::byte{0xff});
    }

    TEST_CASE_FIXTURE(Fixture, "every device has an id of its own and takes its state back") {
        std::set<std::string> ids;
        for (const auto& device : platform->devices()) {
            CHECK(ids.insert(std::string{device->id()}).second);
            const auto state = device->save();
            REQUIRE(state);
            CHECK(state->id == device->id());
            CHECK(device->restore(*state));
        }
        CHECK(ids.contains("ioapic"));
    }
}
