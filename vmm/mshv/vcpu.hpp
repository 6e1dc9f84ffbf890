// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/kick.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/descriptor.hpp"
#include "vmm/mshv/events.hpp"
#include "vmm/mshv/partition.hpp"
#include "vmm/mshv/register_window.hpp"
#include "vmm/mshv/vp_registers.hpp"
#include "vmm/partition.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace wherry::vmm::mshv {

/// A VP of an MshvPartition. It waits in HLT inside the hypervisor; run() does not report that.
///
/// Between two RUN_VPs of one run() changed registers may stand in the register page alone; when
/// run() returns the hypervisor has them.
class MshvVcpu final : public Vcpu {
public:
    static formats::Result<std::unique_ptr<Vcpu>>
    create(PartitionShared& shared, std::uint32_t index);

    MshvVcpu(PartitionShared& shared, std::uint32_t index, Descriptor vp, MappedPage page);
    formats::Result<ExitReason> run(ExitHandler& handler) override;
    void kick() noexcept override;
    formats::Result<VcpuState> save() override;
    formats::Status restore(const VcpuState& state) override;
    formats::Status set_cpuid(std::span<const CpuidEntry> cpuid) override;

private:
    using Served = formats::Result<std::optional<ExitReason>>;

    formats::Status set_up();
    formats::Result<ExitReason> run_until_reason(ExitHandler& handler);

    Served serve(const abi::messages::Message& message, ExitHandler& handler);
    formats::Status serve_port(const abi::messages::Message& message, ExitHandler& handler);
    formats::Status serve_memory(const abi::messages::Message& message, ExitHandler& handler);
    formats::Status await_page(std::uint64_t gpa);
    formats::Status emulate(
        const abi::messages::InterceptHeader& header,
        std::span<const std::uint8_t> fetched,
        ExitHandler& handler);
    formats::Status end_shadow(const abi::messages::InterceptHeader& header);

    formats::Result<EventRegisters> read_events(HyperVState& rest) const;
    formats::Status read_lapic_into(VcpuState& state) const;
    formats::Status restore_lapic(const VcpuState& state) const;
    formats::Status restore_controls(const VcpuState& state) const;
    formats::Status restore_synthetic(const VcpuState& state) const;
    formats::Status restore_events(const VcpuState& state) const;
    formats::Status assert_nmi() const;

    PartitionShared& shared_;
    std::uint32_t index_;
    Descriptor vp_;
    VpRegisters registers_{vp_, index_};
    RegisterWindow window_;
    Kick kick_;
    /// The RAM page that the guest did not get though it is there, and how often in a row.
    std::uint64_t refused_gpa_ = 0;
    unsigned refused_times_ = 0;
};

} // namespace wherry::vmm::mshv
