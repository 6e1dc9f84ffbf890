// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/register_page.hpp"
#include "vmm/mshv/abi/registers.hpp"
#include "vmm/mshvsim/cpu_shadow.hpp"
#include "vmm/mshvsim/hypervisor.hpp"
#include "vmm/mshvsim/synic.hpp"
#include "vmm/mshvsim/synthetic_timers.hpp"

#include <map>
#include <optional>

namespace wherry::vmm::mshvsim {

/// The registers of one VP by their hypercall names. Whoever calls has the VP's RunGate.
class VpRegisters {
public:
    VpRegisters(Hypervisor& hypervisor, EngineVcpu& vcpu, std::uint32_t index);

    using Value = mshv::abi::RegisterValue;
    /// Nothing: no such register.
    std::optional<Value> get(std::uint32_t name);
    /// Status of the hypervisor.
    std::uint16_t set(std::uint32_t name, const Value& value);

    /// Written one by one, these may pass through combinations that no processor takes. When a
    /// hypercall has written all that it wants to, is_mode_possible() is to be true.
    static bool is_part_of_mode(std::uint32_t name) noexcept;
    bool is_mode_possible();
    /// Hyper-V's own registers. Nothing: no such register.
    std::optional<std::uint16_t>
    write_synthetic(std::uint32_t name, std::uint64_t value, Writer writer);

    CpuShadow& shadow() noexcept { return shadow_; }
    Synic& synic() noexcept { return synic_; }
    SyntheticTimers& timers() noexcept { return timers_; }
    std::uint64_t runtime = 0; ///< 100 ns; counted where its feature is offered
    bool explicit_suspend = true;
    bool intercept_suspend = false;

    void fill(mshv::abi::RegisterPage& page);
    /// What a hypercall wrote. Most exits end with a few general registers: that must be quick, or
    /// the signal that a VMM sends after such an exit comes before its next RUN_VP, and is lost.
    enum class Written { general_only, others };
    /// The same between two runs: what the VMM has marked as dirty stays as it wrote it.
    void refresh(mshv::abi::RegisterPage& page, Written written);
    /// Takes over what the VMM marked as dirty, and clears the marks.
    void consume(mshv::abi::RegisterPage& page);

private:
    void fill_general(mshv::abi::RegisterPage& page);
    std::optional<Value> get_cpu(std::uint32_t name);
    std::optional<Value> get_event(std::uint32_t name);
    std::optional<Value> get_floating(std::uint32_t name);
    std::optional<Value> get_synthetic(std::uint32_t name);
    std::optional<std::uint16_t> set_cpu(std::uint32_t name, const Value& value);
    std::optional<std::uint16_t> set_control(std::uint32_t name, const Value& value);
    std::optional<std::uint16_t> set_event(std::uint32_t name, const Value& value);
    std::uint16_t set_run_state(std::uint64_t value);
    std::uint16_t set_pending(std::uint32_t name, const Value& value);
    std::optional<std::uint16_t> set_floating(std::uint32_t name, const Value& value);
    std::optional<std::uint16_t> set_msr(std::uint32_t name, std::uint64_t value);

    Hypervisor& hypervisor_;
    EngineVcpu& vcpu_;
    std::uint32_t index_;
    CpuShadow shadow_;
    Synic synic_;
    SyntheticTimers timers_;
    std::map<std::uint32_t, std::uint64_t> stored_;
};

/// The MSR that a register stands for in the guest.
std::optional<std::uint32_t> msr_of_register(std::uint32_t name);

mshv::abi::SegmentValue segment_value(const Segment& from);
/// Names PENDING_INTERRUPTION and INTERRUPT_STATE.
std::uint64_t pending_interruption_of(const PendingEvents& events);
std::uint64_t interrupt_state_of(const PendingEvents& events);

} // namespace wherry::vmm::mshvsim
