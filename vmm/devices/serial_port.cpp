// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial_port.hpp"

#include "vmm/little_endian.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::size_t input_capacity = 64UL * 1024;
constexpr std::uint32_t state_version = 1;
constexpr std::size_t state_header = 8; // eight one-byte fields; then two counted byte strings
constexpr std::uint32_t longest_string = 1U << 20U;

// Interrupt enable and identification.
constexpr std::uint8_t on_received = 0x01;
constexpr std::uint8_t on_transmitter_empty = 0x02;
constexpr std::uint8_t known_enables = 0x0f;
constexpr std::uint8_t no_interrupt = 0x01;
constexpr std::uint8_t is_transmitter_empty = 0x02;
constexpr std::uint8_t is_received = 0x04;
constexpr std::uint8_t fifos_enabled = 0xc0;
// FIFO control.
constexpr std::uint8_t enable_fifos = 0x01;
constexpr std::uint8_t clear_receive_fifo = 0x02;
constexpr std::uint8_t kept_fifo_bits = 0xc9;
// Modem control.
constexpr std::uint8_t data_terminal_ready = 0x01;
constexpr std::uint8_t request_to_send = 0x02;
constexpr std::uint8_t output_1 = 0x04;
constexpr std::uint8_t output_2 = 0x08; // on a PC: lets the interrupt out
constexpr std::uint8_t loopback = 0x10;
// Line status.
constexpr std::uint8_t data_ready = 0x01;
constexpr std::uint8_t transmitter_empty = 0x60; // holding and shift register
// Modem status.
constexpr std::uint8_t clear_to_send = 0x10;
constexpr std::uint8_t data_set_ready = 0x20;
constexpr std::uint8_t ring = 0x40;
constexpr std::uint8_t carrier = 0x80;

void append_string(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
    append_le(to, static_cast<std::uint32_t>(bytes.size()));
    to.insert(to.end(), bytes.begin(), bytes.end());
}

std::optional<std::span<const std::byte>> take_string(std::span<const std::byte>& from) {
    const auto size = load_le<std::uint32_t>(from, 0);
    if (!size || *size > longest_string || from.size() - 4 < *size) {
        return std::nullopt;
    }
    const auto bytes = from.subspan(4, *size);
    from = from.subspan(4 + *size);
    return bytes;
}

} // namespace

SerialPort::SerialPort(std::unique_ptr<SerialOutput> output, InterruptLine* interrupt)
    : interrupt_{interrupt},
      output_{std::move(output)} {
    output_->on_relief([this] { output_relieved(); });
}

SerialPort::~SerialPort() {
    output_->on_relief(nullptr);
}

std::size_t SerialPort::receive(std::span<const std::byte> bytes) {
    const std::scoped_lock held{mutex_};
    const auto taken = std::min(bytes.size(), input_capacity - received_.size());
    const auto part = bytes.first(taken);
    received_.insert(received_.end(), part.begin(), part.end());
    update_line();
    return taken;
}

void SerialPort::read(std::uint64_t offset, std::span<std::byte> data) {
    const std::scoped_lock held{mutex_};
    for (auto& byte : data) {
        byte = std::byte{read_register(offset++)};
    }
    update_line();
}

void SerialPort::write(std::uint64_t offset, std::span<const std::byte> data) {
    const std::scoped_lock held{mutex_};
    for (const auto byte : data) {
        write_register(offset++, std::to_integer<std::uint8_t>(byte));
    }
    update_line();
}

std::uint8_t SerialPort::read_register(std::uint64_t offset) {
    switch (offset) {
    case 0:
        return has_divisor_access() ? registers_.divisor_low : take_received();
    case 1:
        return has_divisor_access() ? registers_.divisor_high : registers_.interrupt_enable;
    case 2: {
        const auto identified = identify_interrupt();
        if ((identified & 0x0fU) == is_transmitter_empty) {
            registers_.transmitter_interrupt = false; // reading its name acknowledges it
        }
        return identified;
    }
    case 3:
        return registers_.line_control;
    case 4:
        return registers_.modem_control;
    case 5:
        return line_status();
    case 6:
        return modem_status();
    case 7:
        return registers_.scratch;
    default:
        return 0xff;
    }
}

void SerialPort::write_register(std::uint64_t offset, std::uint8_t value) {
    switch (offset) {
    case 0:
        if (has_divisor_access()) {
            registers_.divisor_low = value;
        } else {
            transmit(value);
        }
        break;
    case 1:
        if (has_divisor_access()) {
            registers_.divisor_high = value;
        } else {
            write_interrupt_enable(value);
        }
        break;
    case 2:
        write_fifo_control(value);
        break;
    case 3:
        registers_.line_control = value;
        break;
    case 4:
        registers_.modem_control = value & 0x1fU;
        break;
    case 7:
        registers_.scratch = value;
        break;
    default:
        break; // status registers take no writes
    }
}

void SerialPort::write_interrupt_enable(std::uint8_t value) {
    const auto before = std::exchange(registers_.interrupt_enable, value & known_enables);
    const bool is_newly_wanted = (before & on_transmitter_empty) == 0 &&
                                 (registers_.interrupt_enable & on_transmitter_empty) != 0;
    if (is_newly_wanted && (line_status() & transmitter_empty) != 0) {
        registers_.transmitter_interrupt = true; // it is empty already
    }
}

void SerialPort::write_fifo_control(std::uint8_t value) {
    const bool toggles = ((value ^ registers_.fifo_control) & enable_fifos) != 0;
    if (toggles || (value & clear_receive_fifo) != 0) {
        received_.clear();
    }
    registers_.fifo_control = (value & enable_fifos) != 0 ? value & kept_fifo_bits : 0;
}

void SerialPort::transmit(std::uint8_t value) {
    registers_.transmitter_interrupt = false;
    if ((registers_.modem_control & loopback) != 0) {
        if (received_.size() < input_capacity) {
            received_.push_back(std::byte{value});
        }
    } else {
        output_->put(std::byte{value});
    }
    if ((line_status() & transmitter_empty) != 0) {
        registers_.transmitter_interrupt = true;
    }
}

std::uint8_t SerialPort::take_received() {
    if (received_.empty()) {
        return 0;
    }
    const auto byte = received_.front();
    received_.pop_front();
    return std::to_integer<std::uint8_t>(byte);
}

std::uint8_t SerialPort::identify_interrupt() const {
    const std::uint8_t fifos = (registers_.fifo_control & enable_fifos) != 0 ? fifos_enabled : 0;
    if ((registers_.interrupt_enable & on_received) != 0 && !received_.empty()) {
        return fifos | is_received;
    }
    if ((registers_.interrupt_enable & on_transmitter_empty) != 0 &&
        registers_.transmitter_interrupt) {
        return fifos | is_transmitter_empty;
    }
    return fifos | no_interrupt;
}

std::uint8_t SerialPort::line_status() const {
    const std::uint8_t empty = output_->is_congested() ? 0 : transmitter_empty;
    return received_.empty() ? empty : empty | data_ready;
}

std::uint8_t SerialPort::modem_status() const {
    const auto control = registers_.modem_control;
    if ((control & loopback) == 0) {
        return carrier | data_set_ready | clear_to_send;
    }
    const auto wired = [control](std::uint8_t from, std::uint8_t to) -> std::uint8_t {
        return (control & from) != 0 ? to : 0;
    };
    return wired(request_to_send, clear_to_send) | wired(data_terminal_ready, data_set_ready) |
           wired(output_1, ring) | wired(output_2, carrier);
}

void SerialPort::update_line() {
    if (interrupt_ == nullptr || is_quiet_) {
        return;
    }
    const bool is_let_out =
        (registers_.modem_control & output_2) != 0 && (registers_.modem_control & loopback) == 0;
    interrupt_->set_level(is_let_out && (identify_interrupt() & no_interrupt) == 0);
}

void SerialPort::output_relieved() {
    const std::scoped_lock held{mutex_};
    registers_.transmitter_interrupt = true;
    update_line();
}

Status SerialPort::quiesce() {
    output_->hold();
    const std::scoped_lock held{mutex_};
    is_quiet_ = true;
    return {};
}

Status SerialPort::resume() {
    output_->release();
    const std::scoped_lock held{mutex_};
    is_quiet_ = false;
    update_line();
    return {};
}

Result<DeviceState> SerialPort::save() const {
    const std::scoped_lock held{mutex_};
    DeviceState state{.id = std::string{id()}, .version = state_version, .bytes = {}};
    for (const std::uint8_t field :
         {registers_.interrupt_enable,
          registers_.fifo_control,
          registers_.line_control,
          registers_.modem_control,
          registers_.scratch,
          registers_.divisor_low,
          registers_.divisor_high,
          static_cast<std::uint8_t>(registers_.transmitter_interrupt ? 1 : 0)}) {
        state.bytes.push_back(std::byte{field});
    }
    append_string(state.bytes, std::vector<std::byte>{received_.begin(), received_.end()});
    append_string(state.bytes, output_->waiting());
    return state;
}

Status SerialPort::restore(const DeviceState& state) {
    if (state.version != state_version) {
        return fail(
            ErrorCode::version_mismatch,
            fmt::format(
                "serial0: state version {}; this build knows {}", state.version, state_version));
    }
    std::span<const std::byte> rest{state.bytes};
    if (rest.size() < state_header) {
        return fail(ErrorCode::corrupted, "serial0: its state is too short");
    }
    const auto field = [fields = rest.first(state_header)](std::size_t at) {
        return std::to_integer<std::uint8_t>(fields[at]);
    };
    rest = rest.subspan(state_header);
    const auto received = take_string(rest);
    const auto waiting = received ? take_string(rest) : std::nullopt;
    if (!waiting || !rest.empty() || received->size() > input_capacity) {
        return fail(ErrorCode::corrupted, "serial0: its state has a wrong length");
    }
    const std::scoped_lock held{mutex_};
    registers_ = {
        .interrupt_enable = field(0),
        .fifo_control = field(1),
        .line_control = field(2),
        .modem_control = field(3),
        .scratch = field(4),
        .divisor_low = field(5),
        .divisor_high = field(6),
        .transmitter_interrupt = field(7) != 0};
    received_.assign(received->begin(), received->end());
    output_->restore_waiting(*waiting);
    return {};
}

} // namespace wherry::vmm
