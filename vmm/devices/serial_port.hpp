// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device.hpp"
#include "vmm/devices/serial_output.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

namespace wherry::vmm {

/// A 16550A (National PC16550D data sheet): eight byte-wide registers. It sends in no time, so
/// the transmitter is empty except while the output is congested; line errors do not exist.
class SerialPort final : public Device {
public:
    /// `interrupt` may be null: then the guest polls. It outlives the port.
    SerialPort(std::unique_ptr<SerialOutput> output, InterruptLine* interrupt);
    ~SerialPort() override;

    /// Bytes that arrive from outside. Returns how many were taken: the queue is bounded.
    std::size_t receive(std::span<const std::byte> bytes);
    /// Why output is no longer written, if it is not.
    [[nodiscard]] formats::Status output_failure() const { return output_->failure(); }

    [[nodiscard]] std::string_view id() const noexcept override { return "serial0"; }
    void read(std::uint64_t offset, std::span<std::byte> data) override;
    void write(std::uint64_t offset, std::span<const std::byte> data) override;
    formats::Status quiesce() override;
    [[nodiscard]] formats::Result<DeviceState> save() const override;
    formats::Status restore(const DeviceState& state) override;
    formats::Status resume() override;

private:
    struct Registers {
        std::uint8_t interrupt_enable = 0;
        std::uint8_t fifo_control = 0;
        std::uint8_t line_control = 0;
        std::uint8_t modem_control = 0;
        std::uint8_t scratch = 0;
        std::uint8_t divisor_low = 12; // 9600 baud
        std::uint8_t divisor_high = 0;
        /// The transmitter became empty and nobody has been told.
        bool transmitter_interrupt = false;
    };

    // All below: locked.
    std::uint8_t read_register(std::uint64_t offset);
    void write_register(std::uint64_t offset, std::uint8_t value);
    void write_interrupt_enable(std::uint8_t value);
    void write_fifo_control(std::uint8_t value);
    void transmit(std::uint8_t value);
    std::uint8_t take_received();
    [[nodiscard]] std::uint8_t identify_interrupt() const;
    [[nodiscard]] std::uint8_t line_status() const;
    [[nodiscard]] std::uint8_t modem_status() const;
    [[nodiscard]] bool has_divisor_access() const { return (registers_.line_control & 0x80U) != 0; }
    void update_line();
    void output_relieved();

    InterruptLine* interrupt_;
    mutable std::mutex mutex_;
    Registers registers_;
    std::deque<std::byte> received_;
    bool is_quiet_ = false;
    std::unique_ptr<SerialOutput> output_; // last: its thread calls in here
};

} // namespace wherry::vmm
