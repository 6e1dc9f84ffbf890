// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device.hpp"
#include "vmm/partition.hpp"
#include "vmm/platform_layout.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

namespace wherry::vmm {

/// The interrupt controller that devices' lines end in: 24 pins, each with a redirection entry
/// that becomes a message to local APICs (Intel 82093AA; version 0x20 with an EOI register, Intel
/// ICH9 13.5). The hypervisor has the local APICs. Thread-safe.
///
/// As on the chip, an edge that arrives while its pin is masked is lost, and a level pin that is
/// still high when its interrupt ends is delivered again.
class IoApic final : public Device {
public:
    /// Hears what the hypervisor refused: called with the controller locked, on the thread that
    /// moved a line or wrote a register. From then on the guest may miss interrupts.
    using FailureHandler = std::function<void(const formats::Error&)>;

    /// `partition` outlives the controller.
    IoApic(Partition& partition, FailureHandler on_failure);

    /// The wire into `pin`; lives as long as the controller. An active-low pin is seen high when
    /// its device asks for service: lines carry "wants service", not volts.
    InterruptLine& line(std::uint32_t pin);

    /// A local APIC ended `vector`, which came from a level-triggered pin.
    void end_of_interrupt(std::uint8_t vector);

    [[nodiscard]] std::string_view id() const noexcept override { return "ioapic"; }
    void read(std::uint64_t offset, std::span<std::byte> data) override;
    void write(std::uint64_t offset, std::span<const std::byte> data) override;
    formats::Status quiesce() override { return {}; } // moves only when others move it
    [[nodiscard]] formats::Result<DeviceState> save() const override;
    /// Tells the hypervisor the routes too.
    formats::Status restore(const DeviceState& state) override;
    formats::Status resume() override;

private:
    static constexpr std::size_t pin_count = platform_layout::io_apic_pins;

    class Pin final : public InterruptLine {
    public:
        void set_level(bool high) override { owner->set_level(*this, high); }

        IoApic* owner = nullptr;
        std::uint64_t entry = 0;
        bool is_high = false;
    };

    void set_level(Pin& pin, bool high);
    /// Delivers if a level pin is high and waits for no end of interrupt. All below: locked.
    void service(Pin& pin);
    void deliver(Pin& pin);
    void end_locked(std::uint8_t vector);
    [[nodiscard]] std::uint32_t read_register(std::uint8_t index) const;
    void write_register(std::uint8_t index, std::uint32_t value);
    void write_entry(Pin& pin, std::uint64_t value);
    /// Tells the hypervisor the messages of all pins where one has changed.
    formats::Status route();

    Partition& partition_;
    FailureHandler on_failure_;
    mutable std::mutex mutex_;
    std::uint8_t selected_ = 0;
    std::uint8_t apic_id_ = platform_layout::io_apic_id;
    std::array<Pin, pin_count> pins_;
    std::array<MsiMessage, pin_count> routed_{};
};

/// The message that a redirection entry sends (82093AA 3.2.4 to SDM vol. 3, 10.11).
MsiMessage message_of(std::uint64_t redirection_entry) noexcept;

} // namespace wherry::vmm
