// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/partition.hpp"

#include <memory>
#include <vector>

namespace wherry::tests {

/// A hypervisor that records what arrives at its local APICs.
class RecordingPartition final : public vmm::Partition {
public:
    explicit RecordingPartition(bool has_interrupt_controller = true) {
        capabilities_.has_interrupt_controller = has_interrupt_controller;
    }

    std::vector<vmm::MsiMessage> sent;
    std::vector<std::vector<vmm::MsiMessage>> routes;
    bool refuses = false;

    const vmm::BackendCapabilities& capabilities() const noexcept override { return capabilities_; }
    formats::Status map_memory(vmm::GuestMemory&) override { return unused(); }
    formats::Result<std::unique_ptr<vmm::Vcpu>> create_vcpu(std::uint32_t) override {
        return std::unexpected{unused().error()};
    }
    formats::Status signal(const vmm::MsiMessage& message) override {
        if (refuses) {
            return unused();
        }
        sent.push_back(message);
        return {};
    }
    formats::Status route_pins(std::span<const vmm::MsiMessage> pins) override {
        routes.emplace_back(pins.begin(), pins.end());
        return {};
    }
    formats::Status start_dirty_log() override { return unused(); }
    formats::Status stop_dirty_log() override { return unused(); }
    formats::Status fetch_dirty_log(formats::PageRange, std::span<std::uint64_t>) override {
        return unused();
    }
    formats::Result<vmm::PartitionClock> save_clock() override {
        return std::unexpected{unused().error()};
    }
    formats::Status restore_clock(const vmm::PartitionClock&) override { return unused(); }

private:
    static formats::Status unused() {
        return formats::fail(formats::ErrorCode::unsupported, "not here");
    }
    vmm::BackendCapabilities capabilities_;
};

} // namespace wherry::tests
