// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/power.hpp"

#include "vmm/platform_layout.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::vmm {
namespace {

constexpr std::uint32_t state_version = 1;

void answer_zero(std::span<std::byte> data) {
    std::ranges::fill(data, std::byte{0});
}

std::uint8_t first_byte(std::span<const std::byte> data) {
    return data.empty() ? std::uint8_t{0} : std::to_integer<std::uint8_t>(data.front());
}

} // namespace

formats::Result<DeviceState> StatelessDevice::save() const {
    return DeviceState{.id = std::string{id()}, .version = state_version, .bytes = {}};
}

formats::Status StatelessDevice::restore(const DeviceState& state) {
    if (state.version != state_version || !state.bytes.empty()) {
        return formats::fail(
            formats::ErrorCode::incompatible,
            fmt::format(
                "the state of device {} has version {} and {} bytes, this wherry knows version {} "
                "with none: update it",
                id(),
                state.version,
                state.bytes.size(),
                state_version));
    }
    return {};
}

void SleepControl::read(std::uint64_t /*offset*/, std::span<std::byte> data) {
    answer_zero(data);
}

void SleepControl::write(std::uint64_t offset, std::span<const std::byte> data) {
    constexpr std::uint8_t sleep_enable = 0x20;
    constexpr std::uint8_t soft_off = platform_layout::soft_off_type << 2U;
    constexpr std::uint8_t meaningful = sleep_enable | 0x1c;
    // Offset 1 is the status register: writing clears WAK_STS, which is never set.
    if (offset == 0 && (first_byte(data) & meaningful) == (sleep_enable | soft_off)) {
        on_end_(
            {.cause = MachineEnd::Cause::powered_off,
             .exit_code = 0,
             .text = "the guest powered off"});
    }
}

void ResetPort::read(std::uint64_t /*offset*/, std::span<std::byte> data) {
    answer_zero(data);
}

void ResetPort::write(std::uint64_t /*offset*/, std::span<const std::byte> data) {
    if ((first_byte(data) & trigger_.mask) == trigger_.value) {
        on_end_(
            {.cause = MachineEnd::Cause::reset,
             .exit_code = 0,
             .text = fmt::format("the guest reset its machine ({})", id_)});
    }
}

} // namespace wherry::vmm
