// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/kick.hpp"
#include "vmm/kvm/partition.hpp"
#include "vmm/kvm/run_area.hpp"
#include "vmm/partition.hpp"
#include "vmm/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace wherry::vmm::kvm {

/// A vCPU of a KvmPartition. It waits in HLT inside KVM; run() never reports that.
class KvmVcpu final : public Vcpu {
public:
    static formats::Result<std::unique_ptr<Vcpu>>
    create(PartitionShared& shared, std::uint32_t index);

    KvmVcpu(PartitionShared& shared, std::uint32_t index, UniqueFd fd, RunArea area);
    formats::Result<ExitReason> run(ExitHandler& handler) override;
    void kick() noexcept override;
    formats::Result<VcpuState> save() override;
    formats::Status restore(const VcpuState& state) override;
    formats::Status set_cpuid(std::span<const CpuidEntry> cpuid) override;

    /// The MSRs that the last save() could not read, though KVM lists them.
    [[nodiscard]] std::span<const std::uint32_t> unreadable_msrs() const noexcept;

private:
    formats::Result<ExitReason> run_until_reason(ExitHandler& handler);
    formats::Result<ExitReason> finish_pending(ExitHandler& handler, ExitReason reason);
    formats::Error with_place(formats::Error error) const;
    void announce_pause() const noexcept;
    formats::Status hide_interface() const;
    formats::Result<PendingEvents> save_events() const;
    formats::Status restore_events(const PendingEvents& events) const;
    formats::Status restore_controls(const VcpuState& state) const;
    formats::Status restore_msrs(const VcpuState& state) const;

    PartitionShared& shared_;
    std::uint32_t index_;
    UniqueFd fd_;
    RunArea area_;
    Kick kick_;
    bool was_paused_ = true;
    std::vector<std::uint32_t> unreadable_msrs_;
};

} // namespace wherry::vmm::kvm
