// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/device.hpp"
#include "vmm/devices/io_apic.hpp"
#include "vmm/devices/power.hpp"
#include "vmm/io_bus.hpp"
#include "vmm/partition.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace wherry::vmm {

/// What the guest's accesses and interrupts meet: the bus with the devices every machine has
/// (IOAPIC where the hypervisor has local APICs, ACPI power-off, three ways to reset), and what is
/// added to them. See platform_layout.hpp for the addresses.
/// Built on one thread before the first vCPU runs; then serves all vCPU threads.
class Platform {
public:
    /// `partition` outlives the platform. `on_end` is called when the guest ends its machine, and
    /// with Cause::crashed when the hypervisor refuses an interrupt; see EndHandler.
    static formats::Result<std::unique_ptr<Platform>>
    create(Partition& partition, EndHandler on_end);
    Platform() = default; ///< an empty one: the machine wants what `create` makes
    Platform(const Platform&) = delete;
    Platform& operator=(const Platform&) = delete;
    ~Platform();

    /// The wire into an IOAPIC pin; nullptr where there is no interrupt controller, and the device
    /// then works without interrupts.
    [[nodiscard]] InterruptLine* line(std::uint32_t pin);

    /// Takes a device in at ports [first, first + count).
    formats::Status add(std::unique_ptr<Device> device, std::uint16_t first, std::uint16_t count);

    [[nodiscard]] const IoBus& bus() const noexcept { return bus_; }
    /// In the order in which to restore and resume; quiesce and save in any.
    [[nodiscard]] std::span<const std::unique_ptr<Device>> devices() const noexcept {
        return devices_;
    }

    /// For ExitHandler::end_of_interrupt.
    void end_of_interrupt(std::uint8_t vector);

private:
    IoBus bus_;
    std::vector<std::unique_ptr<Device>> devices_;
    IoApic* io_apic_ = nullptr; // in devices_, or none
};

} // namespace wherry::vmm
