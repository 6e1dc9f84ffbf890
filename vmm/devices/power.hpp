// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device.hpp"
#include "vmm/machine.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace wherry::vmm {

/// Hears that the guest ended its machine. Called on the vCPU's thread, in the middle of an
/// instruction; may be called again before the vCPUs stop.
using EndHandler = std::function<void(const MachineEnd&)>;

/// What the devices of this file share: they remember nothing and start nothing by themselves.
class StatelessDevice : public Device {
public:
    formats::Status quiesce() final { return {}; }
    [[nodiscard]] formats::Result<DeviceState> save() const final;
    formats::Status restore(const DeviceState& state) final;
    formats::Status resume() final { return {}; }
};

/// ACPI sleep control and status registers (ACPI 6.4, 4.8.3.7), two ports. Knows \_S5 only.
class SleepControl final : public StatelessDevice {
public:
    explicit SleepControl(EndHandler on_end) : on_end_{std::move(on_end)} {}
    [[nodiscard]] std::string_view id() const noexcept override { return "sleep"; }
    void read(std::uint64_t offset, std::span<std::byte> data) override;
    void write(std::uint64_t offset, std::span<const std::byte> data) override;

private:
    EndHandler on_end_;
};

/// A port that resets the machine when a byte with `value` in the bits of `mask` is written. The
/// PC has several; see platform.cpp. Reads as zero.
class ResetPort final : public StatelessDevice {
public:
    struct Trigger {
        std::uint8_t mask, value;
    };
    ResetPort(std::string id, Trigger trigger, EndHandler on_end)
        : id_{std::move(id)},
          trigger_{trigger},
          on_end_{std::move(on_end)} {}
    [[nodiscard]] std::string_view id() const noexcept override { return id_; }
    void read(std::uint64_t offset, std::span<std::byte> data) override;
    void write(std::uint64_t offset, std::span<const std::byte> data) override;

private:
    std::string id_;
    Trigger trigger_;
    EndHandler on_end_;
};

} // namespace wherry::vmm
