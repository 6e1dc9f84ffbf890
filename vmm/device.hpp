// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::vmm {

/// A device's state as it travels. `version` is the device's own; a device refuses versions it
/// does not know, naming them.
struct DeviceState {
    std::string id;
    std::uint32_t version = 0;
    std::vector<std::byte> bytes;
    friend bool operator==(const DeviceState&, const DeviceState&) = default;
};

/// One emulated device. Accesses come from vCPU threads, several at once: the device locks.
/// quiesce, save, restore, resume come from the machine's thread while no vCPU runs.
class Device {
public:
    Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    virtual ~Device() = default;

    /// Unique in its machine and equal on both hosts: "serial0", "ioapic".
    [[nodiscard]] virtual std::string_view id() const noexcept = 0;
    /// `offset` is from the start of the range it was attached at.
    virtual void read(std::uint64_t offset, std::span<std::byte> data) = 0;
    virtual void write(std::uint64_t offset, std::span<const std::byte> data) = 0;

    /// After this the device starts nothing by itself: no interrupt, no write to guest memory.
    virtual formats::Status quiesce() = 0;
    virtual formats::Result<DeviceState> save() const = 0;
    virtual formats::Status restore(const DeviceState& state) = 0;
    virtual formats::Status resume() = 0;
};

/// A wire from a device to the interrupt controller. Thread-safe.
class InterruptLine {
public:
    InterruptLine() = default;
    InterruptLine(const InterruptLine&) = delete;
    InterruptLine& operator=(const InterruptLine&) = delete;
    virtual void set_level(bool high) = 0;

protected:
    ~InterruptLine() = default;
};

} // namespace wherry::vmm
