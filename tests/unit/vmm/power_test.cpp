// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/power.hpp"

#include <array>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using Cause = vmm::MachineEnd::Cause;

namespace {
void put(vmm::Device& device, std::uint64_t offset, unsigned value) {
    const std::array bytes{static_cast<std::byte>(value)};
    device.write(offset, bytes);
}
} // namespace

TEST_SUITE("vmm.power") {
    TEST_CASE("only entering S5 powers off") {
        std::vector<Cause> ends;
        vmm::SleepControl sleep{[&](const auto& end) {
            ends.push_back(end.cause);
        }};
        put(sleep, 0, 0x14); // type without enable
        put(sleep, 0, 0x20); // S0
        put(sleep, 1, 0x34); // the status register
        CHECK(ends.empty());
        put(sleep, 0, 0x34);
        CHECK(ends == std::vector{Cause::powered_off});
    }

    TEST_CASE("a reset port resets on its trigger only") {
        std::vector<Cause> ends;
        vmm::ResetPort control{"reset-cf9", {.mask = 0x04, .value = 0x04}, [&](const auto& end) {
                                   ends.push_back(end.cause);
                               }};
        put(control, 0, 0x02);
        CHECK(ends.empty());
        put(control, 0, 0x06);
        CHECK(ends == std::vector{Cause::reset});
    }

    TEST_CASE("state with bytes or another version is refused") {
        vmm::SleepControl sleep{[](const auto&) {
        }};
        auto state = *sleep.save();
        CHECK(sleep.restore(state));
        state.bytes.push_back(std::byte{1});
        CHECK_FALSE(sleep.restore(state));
        state = *sleep.save();
        state.version = 9;
        CHECK_FALSE(sleep.restore(state));
    }
}
