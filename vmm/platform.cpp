// SPDX-License-Identifier: Apache-2.0
#include "vmm/platform.hpp"

#include "vmm/platform_layout.hpp"

#include <array>
#include <string>
#include <utility>

namespace wherry::vmm {
namespace {

using formats::fail;
using formats::Status;

struct ResetWay {
    const char* id;
    std::uint16_t port;
    ResetPort::Trigger trigger;
};

// The ACPI register; the reset control register of chipsets (RST_CPU); the keyboard controller's
// pulse of the reset line.
constexpr std::array<ResetWay, 3> reset_ways{{
    {"reset-acpi", platform_layout::reset_port, {0xff, platform_layout::reset_value}},
    {"reset-chipset", 0xcf9, {0x04, 0x04}},
    {"reset-keyboard", 0x64, {0xff, 0xfe}},
}};

} // namespace

formats::Result<std::unique_ptr<Platform>>
Platform::create(Partition& partition, EndHandler on_end) {
    auto platform = std::make_unique<Platform>();
    if (partition.capabilities().has_interrupt_controller) {
        auto refused = [on_end](const formats::Error& error) {
            on_end({.cause = MachineEnd::Cause::crashed, .exit_code = 0, .text = error.text()});
        };
        auto io_apic = std::make_unique<IoApic>(partition, std::move(refused));
        platform->io_apic_ = io_apic.get();
        platform->devices_.push_back(std::move(io_apic));
        auto attached = platform->bus_.attach_memory(
            platform_layout::io_apic, platform_layout::io_apic_size, *platform->io_apic_);
        if (!attached) {
            return fail(std::move(attached).error());
        }
    }
    auto added = platform->add(
        std::make_unique<SleepControl>(on_end), platform_layout::sleep_control_port, 2);
    for (const ResetWay& way : reset_ways) {
        if (added) {
            added = platform->add(
                std::make_unique<ResetPort>(way.id, way.trigger, on_end), way.port, 1);
        }
    }
    if (!added) {
        return fail(std::move(added).error());
    }
    return platform;
}

Platform::~Platform() = default;

InterruptLine* Platform::line(std::uint32_t pin) {
    return io_apic_ == nullptr ? nullptr : &io_apic_->line(pin);
}

Status Platform::add(std::unique_ptr<Device> device, std::uint16_t first, std::uint16_t count) {
    if (auto attached = bus_.attach_ports(first, count, *device); !attached) {
        return attached;
    }
    devices_.push_back(std::move(device));
    return {};
}

void Platform::end_of_interrupt(std::uint8_t vector) {
    if (io_apic_ != nullptr) {
        io_apic_->end_of_interrupt(vector);
    }
}

} // namespace wherry::vmm
