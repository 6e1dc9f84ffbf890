// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/kvm/clock.hpp"
#include "vmm/kvm/memory_slots.hpp"
#include "vmm/kvm/system.hpp"
#include "vmm/partition.hpp"
#include "vmm/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace wherry::vmm::kvm {

/// What the vCPUs share with their partition, which outlives them.
struct PartitionShared {
    System system;
    UniqueFd vm;
    BackendCapabilities capabilities;
    std::vector<std::uint32_t> msr_indices;
    std::uint32_t vcpus = 1;
    bool has_triple_fault_event = false;
    bool has_exception_payload = false;
    std::size_t xsave_size = 4096;
    Clock clock{-1};
};

/// What a partition here would report, without a partition.
formats::Result<BackendCapabilities> probe_kvm();

/// A VM on KVM: LAPICs in the kernel, the IOAPIC ours (split interrupt controller).
class KvmPartition final : public Partition {
public:
    static formats::Result<std::unique_ptr<Partition>> open(const PartitionOptions& options);

    KvmPartition(std::unique_ptr<PartitionShared> shared, LogClearing clearing);
    [[nodiscard]] const BackendCapabilities& capabilities() const noexcept override;
    formats::Status map_memory(GuestMemory& memory) override;
    formats::Result<std::unique_ptr<Vcpu>> create_vcpu(std::uint32_t index) override;
    formats::Status signal(const MsiMessage& message) override;
    formats::Status route_pins(std::span<const MsiMessage> pins) override;
    formats::Status bind_interrupt(int event, std::uint32_t pin) override;
    formats::Status release_interrupt(int event, std::uint32_t pin) override;
    formats::Status bind_doorbell(int event, const Doorbell& doorbell) override;
    formats::Status release_doorbell(int event, const Doorbell& doorbell) override;
    formats::Status start_dirty_log() override;
    formats::Status stop_dirty_log() override;
    formats::Status
    fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) override;
    formats::Result<PartitionClock> save_clock() override;
    formats::Status restore_clock(const PartitionClock& clock) override;

private:
    std::unique_ptr<PartitionShared> shared_;
    MemorySlots slots_;
};

} // namespace wherry::vmm::kvm
