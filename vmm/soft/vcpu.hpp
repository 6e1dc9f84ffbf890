// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"
#include "vmm/soft/engine.hpp"
#include "vmm/soft/hidden_state.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace wherry::vmm::soft {

/// The moments at which the partition's clock was last read and written while the vCPU stood still:
/// its TSC is told, and set, for exactly those. Forgotten when it runs.
struct ClockMoments {
    struct Written {
        std::uint64_t host_tsc = 0;
        std::chrono::nanoseconds elapsed{0}; ///< since the state was saved
    };
    std::optional<std::uint64_t> read_at_tsc;
    std::optional<Written> written;
};

/// What a vCPU has from its partition, which outlives it.
struct VcpuContext {
    GuestMemory& memory;
    const HiddenState& hidden;
    const BackendCapabilities& capabilities;
    ClockMoments& clock;
};

/// The one vCPU of a soft partition: a UC_MODE_64 engine. A hook at the start of every translated
/// block is what stops it: the stop is then between two instructions with RIP exact, cannot be
/// lost, and cannot be mistaken for HLT, which no call of Unicorn reports.
class SoftVcpu final : public Vcpu {
public:
    /// In reset_state().
    static formats::Result<std::unique_ptr<SoftVcpu>> create(VcpuContext context);

    formats::Result<ExitReason> run(ExitHandler& handler) override;
    void kick() noexcept override { kick_.store(true, std::memory_order_relaxed); }
    formats::Result<VcpuState> save() override;
    formats::Status restore(const VcpuState& state) override;
    formats::Status set_cpuid(std::span<const CpuidEntry> cpuid) override;

private:
    struct Hooks;
    /// Non-RAM between two regions, as Unicorn is told of it.
    struct Window {
        SoftVcpu* vcpu;
        std::uint64_t first;
    };
    enum class Stop : std::uint8_t { none, kick, exception, broken_rule };

    explicit SoftVcpu(VcpuContext context);
    formats::Result<Engine> equipped_engine();
    formats::Status map(const Engine& engine);
    formats::Status add_hooks(const Engine& engine);
    formats::Result<ExitReason> reason_of(uc_err outcome);
    formats::Error exception_error() const;
    formats::Status check_mapping();
    [[nodiscard]] std::uint64_t tsc_offset_for(const VcpuState& state) const;
    /// Before an access reaches a device: refuses a guest that has come to use other page tables
    /// than those the backend can run.
    void note_exit();
    void stop(Stop why) noexcept;

    VcpuContext context_;
    std::vector<std::unique_ptr<Window>> windows_;
    std::optional<Engine> engine_;
    std::vector<CpuidEntry> cpuid_;
    std::uint64_t tsc_offset_ = 0;
    std::uint64_t apic_base_ = 0; ///< carried only: an engine has no local APIC
    RunState run_state_ = RunState::runnable;

    std::atomic<bool> kick_{false};
    ExitHandler* handler_ = nullptr; ///< while run() is under way
    Stop stop_ = Stop::none;
    std::uint32_t vector_ = 0;
    std::uint64_t checked_cr3_ = ~std::uint64_t{0};
    formats::Status rule_;
};

} // namespace wherry::vmm::soft
