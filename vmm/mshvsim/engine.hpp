// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshvsim/simulator.hpp"
#include "vmm/vcpu_state.hpp"

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace wherry::vmm::mshvsim {

enum class Access : std::uint8_t { read = 0, write = 1, execute = 2 }; // as in intercept messages

/// What the CPU engine asks about memory that it has no mapping for.
class MemoryFaults {
public:
    enum class Answer : std::uint8_t {
        resolved,  ///< it is there now
        intercept, ///< mapped, but this access is for the VMM to see
        unmapped,
        vacated, ///< unmapped, and was not before: the VMM may bring it back
    };
    /// Whether the VMM is to be told, who may bring what is not there.
    static constexpr bool is_for_vmm(Answer answer) noexcept {
        return answer == Answer::intercept || answer == Answer::vacated;
    }
    MemoryFaults() = default;
    MemoryFaults(const MemoryFaults&) = delete;
    MemoryFaults& operator=(const MemoryFaults&) = delete;
    virtual Answer touch(std::uint64_t gpa, Access access) = 0;
    /// Guest memory that is accessible, within one page. False: it is not, or no longer.
    virtual bool read(std::uint64_t gpa, std::span<std::byte> to) = 0;
    virtual bool write(std::uint64_t gpa, std::span<const std::byte> from) = 0;
    /// A write that rings a doorbell (ioeventfd) goes nowhere else.
    virtual bool ring(std::uint64_t gpa, std::span<const std::byte> data) = 0;

protected:
    ~MemoryFaults() = default;
};

/// Why a vCPU stopped. For port and memory its registers are those before the instruction.
struct Exit {
    enum class Kind : std::uint8_t {
        interrupted, ///< by a signal or kick()
        port,
        memory,
        end_of_interrupt,
        msr_read,
        msr_write,
        halted,
        shut_down,     ///< triple fault
        invalid_state, ///< the processor refused the registers
        unsupported,   ///< something this engine cannot go on from, or not exactly
    };
    Kind kind = Kind::interrupted;
    bool is_write = false, is_string = false, is_repeated = false; ///< of a port
    std::uint8_t size = 0;
    std::uint16_t port = 0;
    std::uint8_t instruction_length = 0; ///< 0: not known
    Access access = Access::read;        ///< of memory
    bool is_mapped = false;              ///< MemoryFaults answered `intercept`
    std::uint64_t gpa = 0;
    std::optional<std::uint64_t> gva = std::nullopt;
    std::uint32_t number = 0; ///< vector or MSR
    std::uint64_t value = 0;  ///< of a written MSR
};

/// Setters: false where the engine does not take the value. Between stop and run on any one thread.
class EngineVcpu {
public:
    EngineVcpu() = default;
    EngineVcpu(const EngineVcpu&) = delete;
    EngineVcpu& operator=(const EngineVcpu&) = delete;
    virtual ~EngineVcpu() = default;

    /// `open_signals`: those not in it end the run. The caller has all of them blocked.
    virtual Exit run(const sigset_t& open_signals) = 0;
    /// Any thread, while another is in run() or about to enter it: ends it.
    virtual void kick(pthread_t runner) = 0;
    /// Answers the msr_read or msr_write that run() returned; nothing: #GP.
    virtual void answer_msr(std::optional<std::uint64_t> value) = 0;

    virtual Registers registers() = 0;
    virtual bool set_registers(const Registers& to) = 0;
    virtual SystemRegisters system() = 0;
    virtual bool set_system(const SystemRegisters& to) = 0;
    /// False: has a value that set_system() takes in no company. The rest of `part` may be
    /// anything: registers are written one by one.
    virtual bool may_hold(const SystemRegisters& /*part*/) { return true; }
    /// False: set_system() would not take it. True is no promise.
    virtual bool can_be_in(const SystemRegisters& /*whole*/) { return true; }
    virtual DebugRegisters debug() = 0;
    virtual bool set_debug(const DebugRegisters& to) = 0;
    virtual bool may_hold(const DebugRegisters& /*to*/) { return true; }
    virtual PendingEvents events() = 0;
    virtual bool set_events(const PendingEvents& to) = 0;
    virtual bool may_hold(const PendingEvents& /*to*/) { return true; }
    virtual RunState run_state() = 0;
    virtual bool set_run_state(RunState to) = 0;
    virtual bool may_hold(RunState /*to*/) { return true; }
    virtual std::optional<std::uint64_t> msr(std::uint32_t index) = 0;
    virtual bool set_msr(std::uint32_t index, std::uint64_t value) = 0;
    virtual std::uint64_t xcr0() = 0;
    virtual bool set_xcr0(std::uint64_t value) = 0;
    virtual std::vector<std::byte> xsave() = 0; ///< standard form
    virtual bool set_xsave(std::span<const std::byte> area) = 0;
    using LapicPage = std::array<std::byte, 1024>;
    virtual std::optional<LapicPage> lapic() = 0;
    virtual bool set_lapic(const LapicPage& page) = 0;
    virtual bool set_apic_base(std::uint64_t value) = 0;
    virtual bool set_cpuid(std::span<const CpuidEntry> entries) = 0;
    virtual bool inject_external(std::uint8_t vector) = 0;
};

struct Interrupt {
    std::uint32_t type = 0; ///< hypercalls.hpp, interrupt_type
    std::uint32_t destination = 0;
    std::uint8_t vector = 0;
    bool is_level = false, is_logical = false;
};

/// A stretch of guest memory that the engine can reach.
struct EngineSlot {
    std::uint32_t number = 0;
    std::uint64_t first_gfn = 0, pages = 0, host = 0;
    bool is_writable = true, is_logged = false;
};

struct EngineCapabilities {
    std::vector<CpuidEntry> cpuid;
    std::uint64_t tsc_frequency_khz = 0;
    std::uint32_t max_slots = 0, max_vcpus = 1;
    bool has_msr_exits = false;
    bool has_lapic = true;  ///< and with it every way to interrupt a guest
    std::uint64_t xcr0 = 3; ///< components whose state xsave() carries
};

/// One guest. Thread-safe.
class Engine {
public:
    Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    [[nodiscard]] virtual const EngineCapabilities& capabilities() const noexcept = 0;
    /// Adds the slot or, with the same place, changes is_logged; no pages: takes it away. errno.
    virtual int set_slot(const EngineSlot& slot) = 0;
    /// What was written since the last call; 64 pages a word.
    virtual bool fetch_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) = 0;
    virtual formats::Result<std::unique_ptr<EngineVcpu>>
    create_vcpu(std::uint32_t index, MemoryFaults& memory) = 0;
    /// Fixed, lowest priority, NMI, INIT, SIPI and SMI. An end of a level-triggered one is an exit.
    virtual bool assert_interrupt(const Interrupt& interrupt) = 0;
};

/// One guest's engine; automatic takes kvm, and soft where that does not open. The error says why
/// there is none.
formats::Result<std::unique_ptr<Engine>>
open_engine(EngineChoice choice, const char* kvm_device = "/dev/kvm");

} // namespace wherry::vmm::mshvsim
