// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/partition.hpp"
#include "vmm/soft/hidden_state.hpp"
#include "vmm/soft/vcpu.hpp"
#include "vmm/soft/write_log.hpp"

#include <chrono>
#include <memory>
#include <optional>

namespace wherry::vmm::soft {

/// A guest on Unicorn: one vCPU, no interrupts.
class SoftPartition final : public Partition {
public:
    static formats::Result<std::unique_ptr<Partition>> open(const PartitionOptions& options);

    [[nodiscard]] const BackendCapabilities& capabilities() const noexcept override {
        return capabilities_;
    }
    formats::Status map_memory(GuestMemory& memory) override;
    formats::Result<std::unique_ptr<Vcpu>> create_vcpu(std::uint32_t index) override;
    formats::Status signal(const MsiMessage& message) override;
    formats::Status route_pins(std::span<const MsiMessage> pins) override;

    /// These work on every host; capabilities().has_dirty_log is false where the kernel's own
    /// tracking is there, which costs the guest less.
    formats::Status start_dirty_log() override;
    formats::Status stop_dirty_log() override;
    formats::Status
    fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) override;

    formats::Result<PartitionClock> save_clock() override;
    /// Reference time and the TSC of the vCPU restored next go on from the saved ones plus the real
    /// time since, never back.
    formats::Status restore_clock(const PartitionClock& clock) override;

private:
    SoftPartition(HiddenState hidden, BackendCapabilities capabilities);

    HiddenState hidden_;
    BackendCapabilities capabilities_;
    GuestMemory* memory_ = nullptr;
    std::unique_ptr<WriteLog> log_;
    std::chrono::nanoseconds reference_offset_; ///< to CLOCK_MONOTONIC
    ClockMoments moments_;
};

} // namespace wherry::vmm::soft
