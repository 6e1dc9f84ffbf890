// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/instruction.hpp"
#include "vmm/soft/simulator_engine.hpp"

#include <array>
#include <atomic>
#include <unordered_map>

namespace wherry::vmm::soft {

/// The vCPU of a SimulatorEngine. Nothing of a device is mapped into Unicorn, so that an access
/// to one stops the guest before the instruction, as MSHV wants it; instructions that are served
/// outside are looked for before each is executed. simulator_vcpu.cpp: state; simulator_hooks.cpp:
/// what Unicorn calls; simulator_run.cpp: running, and from stops to exits.
class SimulatorVcpu final : public mshvsim::EngineVcpu {
public:
    static formats::Result<std::unique_ptr<SimulatorVcpu>>
    create(std::shared_ptr<SimulatorGuest> guest, mshvsim::MemoryFaults& memory);
    ~SimulatorVcpu() override;

    mshvsim::Exit run(const sigset_t& open_signals) override;
    void kick(pthread_t runner) override;
    void answer_msr(std::optional<std::uint64_t> value) override;
    Registers registers() override;
    bool set_registers(const Registers& to) override;
    SystemRegisters system() override;
    bool set_system(const SystemRegisters& to) override;
    bool may_hold(const SystemRegisters& part) override;
    bool can_be_in(const SystemRegisters& whole) override;
    DebugRegisters debug() override;
    bool set_debug(const DebugRegisters& to) override;
    bool may_hold(const DebugRegisters& to) override;
    PendingEvents events() override { return {}; }
    bool set_events(const PendingEvents& to) override { return may_hold(to); }
    bool may_hold(const PendingEvents& to) override;
    RunState run_state() override { return run_state_; }
    bool set_run_state(RunState to) override;
    bool may_hold(RunState to) override;
    std::optional<std::uint64_t> msr(std::uint32_t index) override;
    bool set_msr(std::uint32_t index, std::uint64_t value) override;
    std::uint64_t xcr0() override { return xcr0_; }
    bool set_xcr0(std::uint64_t value) override;
    std::vector<std::byte> xsave() override;
    bool set_xsave(std::span<const std::byte> area) override;
    std::optional<LapicPage> lapic() override { return std::nullopt; }
    bool set_lapic(const LapicPage& page) override;
    bool set_apic_base(std::uint64_t value) override;
    bool set_cpuid(std::span<const CpuidEntry> entries) override;
    bool inject_external(std::uint8_t vector) override;

    /// With the engine's Turn: counts the page tables in use as written, for the processor sets
    /// bits in them that no hook sees.
    void mark_tables();

private:
    struct Hooks;
    enum class Stop : std::uint8_t {
        none,
        visitor,     ///< somebody wants the Unicorn engine
        interrupted, ///< by a signal or kick()
        instruction, ///< one to be served outside is next
        stepped,
        stale,      ///< the code at `stale_` is not what was translated
        not_itself, ///< `fault_.address` is mapped to another one
        exception,
    };
    struct Fault {
        uc_mem_type type = UC_MEM_READ;
        std::uint64_t address = 0, value = 0;
        int size = 0;
    };
    struct StaleCode {
        std::uint64_t first = 0, end = 0;
    };

    SimulatorVcpu(std::shared_ptr<SimulatorGuest> guest, mshvsim::MemoryFaults& memory);
    [[nodiscard]] const Engine& unicorn() const noexcept { return guest_->unicorn; }
    formats::Status add_hooks();
    /// With the Turn.
    SystemRegisters system_now();
    bool is_mode_of(const SystemRegisters& to);
    bool load_system(const SystemRegisters& to);
    [[nodiscard]] SystemRegisters paging_now() const;
    void write_tsc(std::uint64_t value);

    // Hooks: on the thread that runs, which has the Turn.
    void at_block(std::uint64_t address, std::uint32_t size);
    void at_instruction(std::uint64_t address);
    void at_access(std::uint64_t address, std::uint64_t size, bool is_write);
    [[nodiscard]] bool is_served_outside(std::uint64_t address);
    /// False, after stopping: the page tables map it elsewhere, which Unicorn does not follow.
    bool check_identity(std::uint64_t address);
    [[nodiscard]] bool is_interrupted();
    void stop(Stop why);
    void stop_at(Stop why, std::uint64_t address);

    /// One turn in Unicorn.
    uc_err enter();
    uc_err enter_with_turn();
    std::optional<mshvsim::Exit> serve(uc_err outcome);
    std::optional<mshvsim::Exit> serve_instruction();
    std::optional<mshvsim::Exit> serve_msr(const Registers& now);
    std::optional<mshvsim::Exit> serve_memory();
    std::optional<mshvsim::Exit> serve_exception(std::uint32_t vector);
    std::optional<mshvsim::Exit>
    reach(std::uint64_t gpa, std::optional<std::uint64_t> linear, mshvsim::Access access);
    mshvsim::Exit port_exit(const mshvsim::Instruction& at, const Registers& now);
    void execute_cpuid(const Registers& now, std::uint8_t length);
    void step_over_store(std::uint64_t gpa);
    std::optional<mshvsim::Instruction> instruction_at(std::uint64_t linear, const Registers& now);

    std::shared_ptr<SimulatorGuest> guest_;
    mshvsim::MemoryFaults& memory_;
    std::vector<CpuidEntry> cpuid_;
    // What Unicorn has no place for.
    std::uint64_t tsc_offset_ = 0, apic_base_ = 0, cr8_ = 0, xcr0_ = 1;
    RunState run_state_ = RunState::runnable;
    std::optional<std::uint8_t> undeliverable_; ///< an exception that the guest is to have

    std::atomic<bool> is_kicked_ = false;
    sigset_t open_signals_{};
    std::uint64_t signals_seen_at_ = 0; ///< TSC

    Stop stop_ = Stop::none;
    Fault fault_;
    StaleCode stale_;
    std::uint32_t vector_ = 0;
    std::uint64_t at_ = 0;                ///< linear address of the instruction in hand
    std::optional<std::uint64_t> pass_;   ///< one that is not to be served this time
    std::optional<std::uint64_t> resume_; ///< where RIP is to be, as a linear address
    std::uint8_t msr_length_ = 0;         ///< of the RDMSR or WRMSR in hand
    bool is_msr_written_ = false;
    bool is_stepping_ = false, has_stepped_ = false;
    bool is_paging_ = false, is_paging_stale_ = true;
    std::array<std::uint64_t, 512> checked_{}; ///< pages + 1 that were found mapped to themselves
    std::unordered_map<std::uint64_t, std::vector<std::byte>> blocks_; ///< code as translated
};

} // namespace wherry::vmm::soft
