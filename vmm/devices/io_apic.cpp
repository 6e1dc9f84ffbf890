// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/io_apic.hpp"

#include "formats/error.hpp"
#include "vmm/little_endian.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {
namespace {

using formats::ErrorCode;
using formats::fail;
using formats::Status;

constexpr std::uint64_t select_offset = 0x00, window_offset = 0x10, end_offset = 0x40;

constexpr std::uint8_t id_index = 0, version_index = 1, arbitration_index = 2, entries_index = 0x10;

// Redirection entry, 82093AA 3.2.4.
constexpr std::uint64_t vector_bits = 0xff;
constexpr std::uint64_t delivery_bits = 0x700, lowest_priority = 0x100;
constexpr std::uint64_t logical_bit = 1U << 11U, status_bit = 1U << 12U;
constexpr std::uint64_t remote_irr_bit = 1U << 14U, level_bit = 1U << 15U, masked_bit = 1U << 16U;
constexpr std::uint64_t read_only_bits = status_bit | remote_irr_bit;
constexpr std::uint64_t defined_bits = 0xff0000000001ffff;

constexpr std::uint32_t state_version = 1;
constexpr std::size_t state_size = 2 + platform_layout::io_apic_pins * 9;

bool is_level(std::uint64_t entry) {
    return (entry & level_bit) != 0;
}
bool is_masked(std::uint64_t entry) {
    return (entry & masked_bit) != 0;
}
bool awaits_end(std::uint64_t entry) {
    return (entry & remote_irr_bit) != 0;
}

/// The low bytes of `value`, as many as `data` takes; what is beyond reads as zero.
void answer(std::span<std::byte> data, std::uint32_t value) {
    for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = i < 4 ? static_cast<std::byte>(value >> (8 * i)) : std::byte{0};
    }
}

} // namespace

MsiMessage message_of(std::uint64_t entry) noexcept {
    constexpr std::uint64_t redirection_hint = 1U << 3U, logical_destination = 1U << 2U;
    constexpr std::uint32_t asserted = 1U << 14U;
    const bool is_logical = (entry & logical_bit) != 0;
    MsiMessage message;
    message.address = platform_layout::local_apic.value() | ((entry >> 56U) << 12U);
    if (is_logical) {
        message.address |= logical_destination;
        if ((entry & delivery_bits) == lowest_priority) {
            message.address |= redirection_hint;
        }
    }
    message.data = static_cast<std::uint32_t>(entry & (vector_bits | delivery_bits | level_bit));
    if (is_level(entry)) {
        message.data |= asserted;
    }
    return message;
}

IoApic::IoApic(Partition& partition, FailureHandler on_failure)
    : partition_{partition},
      on_failure_{std::move(on_failure)} {
    for (Pin& pin : pins_) {
        pin.owner = this;
        pin.entry = masked_bit;
    }
}

InterruptLine& IoApic::line(std::uint32_t pin) {
    formats::invariant(pin < pin_count, "the IOAPIC has 24 pins");
    return pins_[pin];
}

void IoApic::set_level(Pin& pin, bool high) {
    const std::scoped_lock lock{mutex_};
    const bool was_high = std::exchange(pin.is_high, high);
    if (is_level(pin.entry)) {
        service(pin);
    } else if (high && !was_high && !is_masked(pin.entry)) {
        deliver(pin);
    }
}

void IoApic::service(Pin& pin) {
    if (is_level(pin.entry) && pin.is_high && !is_masked(pin.entry) && !awaits_end(pin.entry)) {
        pin.entry |= remote_irr_bit;
        deliver(pin);
    }
}

void IoApic::deliver(Pin& pin) {
    if (auto sent = partition_.signal(message_of(pin.entry)); !sent) {
        on_failure_(std::move(sent).error().during(
            fmt::format("interrupt of IOAPIC pin {}", &pin - pins_.data())));
    }
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
    const std::scoped_lock lock{mutex_};
    end_locked(vector);
}

void IoApic::end_locked(std::uint8_t vector) {
    for (Pin& pin : pins_) {
        if (is_level(pin.entry) && awaits_end(pin.entry) && (pin.entry & vector_bits) == vector) {
            pin.entry &= ~remote_irr_bit;
            service(pin);
        }
    }
}

void IoApic::read(std::uint64_t offset, std::span<std::byte> data) {
    const std::scoped_lock lock{mutex_};
    if (offset == select_offset) {
        answer(data, selected_);
    } else if (offset == window_offset) {
        answer(data, read_register(selected_));
    } else {
        answer(data, 0);
    }
}

void IoApic::write(std::uint64_t offset, std::span<const std::byte> data) {
    const std::scoped_lock lock{mutex_};
    if (offset == select_offset) {
        selected_ = load_le<std::uint8_t>(data, 0).value_or(0);
    } else if (offset == end_offset) {
        end_locked(load_le<std::uint8_t>(data, 0).value_or(0));
    } else if (offset == window_offset) {
        // The chip takes whole double words only.
        if (const auto value = load_le<std::uint32_t>(data, 0)) {
            write_register(selected_, *value);
        }
    }
}

std::uint32_t IoApic::read_register(std::uint8_t index) const {
    if (index == id_index || index == arbitration_index) {
        return std::uint32_t{apic_id_} << 24U;
    }
    if (index == version_index) {
        constexpr std::uint32_t version = 0x20;
        return static_cast<std::uint32_t>(pin_count - 1) << 16U | version;
    }
    const std::size_t pin = (std::size_t{index} - entries_index) / 2;
    if (index < entries_index || pin >= pin_count) {
        return 0;
    }
    const std::uint64_t entry = pins_[pin].entry;
    return static_cast<std::uint32_t>(index % 2 == 0 ? entry : entry >> 32U);
}

void IoApic::write_register(std::uint8_t index, std::uint32_t value) {
    if (index == id_index) {
        apic_id_ = static_cast<std::uint8_t>(value >> 24U) & 0xfU;
        return;
    }
    const std::size_t number = (std::size_t{index} - entries_index) / 2;
    if (index < entries_index || number >= pin_count) {
        return;
    }
    Pin& pin = pins_[number];
    constexpr std::uint64_t low_half = 0xffffffff;
    if (index % 2 == 0) {
        write_entry(pin, (pin.entry & ~low_half) | value);
    } else {
        write_entry(pin, (pin.entry & low_half) | (std::uint64_t{value} << 32U));
    }
}

void IoApic::write_entry(Pin& pin, std::uint64_t value) {
    const std::uint64_t kept = pin.entry & read_only_bits;
    pin.entry = (value & defined_bits & ~read_only_bits) | kept;
    if (!is_level(pin.entry)) {
        // Systems without an EOI register end a stuck interrupt this way.
        pin.entry &= ~remote_irr_bit;
    }
    if (auto routed = route(); !routed) {
        on_failure_(std::move(routed).error());
    }
    service(pin);
}

Status IoApic::route() {
    std::array<MsiMessage, pin_count> messages{};
    std::ranges::transform(
        pins_, messages.begin(), [](const Pin& pin) { return message_of(pin.entry); });
    const auto same = [](const MsiMessage& a, const MsiMessage& b) {
        return a.address == b.address && a.data == b.data;
    };
    if (std::ranges::equal(messages, routed_, same)) {
        return {};
    }
    if (auto routed = partition_.route_pins(messages); !routed) {
        return fail(std::move(routed).error().during("routing the IOAPIC's pins"));
    }
    routed_ = messages;
    return {};
}

formats::Result<DeviceState> IoApic::save() const {
    const std::scoped_lock lock{mutex_};
    DeviceState state{.id = std::string{id()}, .version = state_version, .bytes = {}};
    append_le(state.bytes, selected_);
    append_le(state.bytes, apic_id_);
    for (const Pin& pin : pins_) {
        append_le(state.bytes, pin.entry);
        append_le(state.bytes, static_cast<std::uint8_t>(pin.is_high ? 1 : 0));
    }
    return state;
}

Status IoApic::restore(const DeviceState& state) {
    if (state.version != state_version || state.bytes.size() != state_size) {
        return fail(
            ErrorCode::incompatible,
            fmt::format(
                "the IOAPIC's state has version {} and {} bytes, this wherry knows version {} with "
                "{}: update it",
                state.version,
                state.bytes.size(),
                state_version,
                state_size));
    }
    const std::scoped_lock lock{mutex_};
    selected_ = load_le<std::uint8_t>(state.bytes, 0).value_or(0);
    apic_id_ = load_le<std::uint8_t>(state.bytes, 1).value_or(0) & 0xfU;
    std::uint64_t at = 2;
    for (Pin& pin : pins_) {
        pin.entry = load_le<std::uint64_t>(state.bytes, at).value_or(0) & defined_bits;
        pin.is_high = load_le<std::uint8_t>(state.bytes, at + 8).value_or(0) != 0;
        at += 9;
    }
    return route();
}

Status IoApic::resume() {
    const std::scoped_lock lock{mutex_};
    for (Pin& pin : pins_) {
        service(pin);
    }
    return {};
}

} // namespace wherry::vmm
