// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/mshv/descriptor.hpp"
#include "vmm/mshv/dirty_log.hpp"
#include "vmm/mshv/guest_map.hpp"
#include "vmm/mshv/partition_time.hpp"
#include "vmm/mshv/syscalls.hpp"
#include "vmm/mshv/window_faults.hpp"
#include "vmm/mshv/xsave.hpp"
#include "vmm/partition.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace wherry::vmm::mshv {

/// What the vCPUs share with their partition, which outlives them.
struct PartitionShared {
    explicit PartitionShared(std::unique_ptr<Syscalls> reached_through)
        : syscalls{std::move(reached_through)} {}

    std::unique_ptr<Syscalls> syscalls; // first: the descriptors are closed through it
    Descriptor partition;
    /// Of VP 0, made early to learn what guests are answered; taken by create_vcpu(0).
    Descriptor first_vp;
    BackendCapabilities capabilities;
    std::vector<CpuidEntry> answered_cpuid; ///< without registered results
    XsaveLayout xsave_layout;
    std::uint64_t xsave_states = 0; ///< in the form of XCR0
    std::size_t xsave_size = 0;     ///< of a compacted area
    std::uint64_t synthetic_features = 0;
    std::uint8_t physical_address_bits = 46;
    std::uint32_t vcpus = 1;
    GuestMemory* memory = nullptr; ///< once mapped
    GuestMap guest_map{partition};
    bool kernel_pins = false; ///< all memory that is mapped
    WindowGate missing;       ///< where vCPUs wait for pages
    PartitionTime time{partition};
};

/// A partition of the Microsoft hypervisor, or of what imitates one: local APICs, synthetic
/// interrupt controllers and timers in the hypervisor, the IOAPIC ours.
class MshvPartition final : public Partition {
public:
    /// `name` is what capabilities() call it.
    static formats::Result<std::unique_ptr<Partition>>
    open(std::unique_ptr<Syscalls> syscalls, std::string name, const PartitionOptions& options);

    explicit MshvPartition(std::unique_ptr<PartitionShared> shared);
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
    formats::Result<std::unique_ptr<FaultSource>> make_fault_source(GuestMemory& memory) override;
    formats::Result<PartitionClock> save_clock() override;
    formats::Status restore_clock(const PartitionClock& clock) override;

private:
    std::unique_ptr<PartitionShared> shared_;
    DirtyLog dirty_log_;
};

} // namespace wherry::vmm::mshv
