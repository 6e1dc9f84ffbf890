// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"
#include "vmm/mshvsim/instruction.hpp"
#include "vmm/mshvsim/kvm_engine.hpp"
#include "vmm/unique_fd.hpp"

#include <linux/kvm.h>

namespace wherry::vmm::mshvsim {

/// kvm_vcpu.cpp: state; kvm_run.cpp: running; kvm_settle.cpp: from KVM's exits, which come in the
/// middle of an instruction, to intercepts, which come before it.
class KvmVcpu final : public EngineVcpu {
public:
    static formats::Result<std::unique_ptr<EngineVcpu>>
    open(KvmEngine& engine, UniqueFd vcpu, std::size_t run_size, MemoryFaults& memory);
    KvmVcpu(
        KvmEngine& engine,
        UniqueFd vcpu,
        kvm_run* area,
        std::size_t run_size,
        MemoryFaults& memory);
    ~KvmVcpu() override;

    Exit run(const sigset_t& open_signals) override;
    void kick(pthread_t runner) override;
    void answer_msr(std::optional<std::uint64_t> value) override;
    Registers registers() override;
    bool set_registers(const Registers& to) override;
    SystemRegisters system() override;
    bool set_system(const SystemRegisters& to) override;
    DebugRegisters debug() override;
    bool set_debug(const DebugRegisters& to) override;
    PendingEvents events() override;
    bool set_events(const PendingEvents& to) override;
    RunState run_state() override;
    bool set_run_state(RunState to) override;
    std::optional<std::uint64_t> msr(std::uint32_t index) override;
    bool set_msr(std::uint32_t index, std::uint64_t value) override;
    std::uint64_t xcr0() override;
    bool set_xcr0(std::uint64_t value) override;
    std::vector<std::byte> xsave() override;
    bool set_xsave(std::span<const std::byte> area) override;
    std::optional<LapicPage> lapic() override;
    bool set_lapic(const LapicPage& page) override;
    bool set_apic_base(std::uint64_t value) override;
    bool set_cpuid(std::span<const CpuidEntry> entries) override;
    bool inject_external(std::uint8_t vector) override;

private:
    struct Everything; ///< what an instruction completed for nothing may have changed
    Everything take_everything();
    void put_back(const Everything& before);

    /// KVM_RUN; 0 or errno.
    int enter();
    /// Nothing: the run goes on.
    std::optional<Exit> serve();
    void set_open_signals(const sigset_t& open_signals);
    std::optional<Exit> serve_memory();
    std::optional<Exit> serve_fault_of_host();
    std::optional<Exit> serve_internal_error();
    std::optional<Exit>
    reach(const SystemRegisters& system, std::uint64_t linear, bool is_the_instructions);
    Exit describe_port();
    std::optional<Exit> settle_port_in(Exit exit);
    std::optional<Exit> settle_port_out(Exit exit);
    Exit settle_memory_read(std::uint64_t gpa, bool is_mapped);
    Exit settle_memory_write(std::uint64_t gpa, bool is_mapped);
    /// Lets KVM finish what is pending, feeding reads with `feed`, without entering the guest.
    void finish(std::span<const std::byte> feed);
    CodeView view_of(const Registers& registers);
    std::optional<std::uint64_t> translate(std::uint64_t linear);
    std::vector<std::byte> bytes_before(std::uint64_t linear);
    std::vector<std::byte> bytes_at(std::uint64_t linear, std::size_t count);

    KvmEngine& engine_;
    UniqueFd vcpu_;
    kvm_run* area_;
    std::size_t run_size_;
    MemoryFaults& memory_;
    std::optional<std::uint64_t> open_signals_;
    /// RIP and operand that KVM gave up on last, as linear addresses, with nothing missing for
    /// them.
    std::optional<std::pair<std::uint64_t, std::uint64_t>> last_error_;
};

} // namespace wherry::vmm::mshvsim
