// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"

namespace wherry::vmm::mshvsim {

/// The registers of a VP that stands still. What the VMM writes stays here until the VP runs: the
/// engine checks registers against each other, and a half written state would not pass.
class CpuShadow {
public:
    explicit CpuShadow(EngineVcpu& vcpu) : vcpu_{vcpu} {}

    const Registers& registers() { return loaded().registers_; }
    const SystemRegisters& system() { return loaded().system_; }
    const DebugRegisters& debug() { return loaded().debug_; }
    const PendingEvents& events() { return loaded().events_; }
    RunState run_state() { return loaded().run_state_; }

    Registers& change_registers() { return changed(registers_, are_registers_changed_); }
    SystemRegisters& change_system() { return changed(system_, is_system_changed_); }
    DebugRegisters& change_debug() { return changed(debug_, is_debug_changed_); }
    PendingEvents& change_events() { return changed(events_, are_events_changed_); }
    RunState& change_run_state() { return changed(run_state_, is_run_state_changed_); }

    /// Gives the changes to the engine. False: it does not take them.
    bool flush();
    /// The engine has run: nothing here is true any more.
    void forget() noexcept { is_loaded_ = false; }

private:
    CpuShadow& loaded();
    template <typename Part>
    Part& changed(Part& part, bool& flag) {
        loaded();
        flag = true;
        return part;
    }

    EngineVcpu& vcpu_;
    bool is_loaded_ = false;
    bool are_registers_changed_ = false, is_system_changed_ = false, is_debug_changed_ = false;
    bool are_events_changed_ = false, is_run_state_changed_ = false;
    Registers registers_;
    SystemRegisters system_;
    DebugRegisters debug_;
    PendingEvents events_;
    RunState run_state_ = RunState::runnable;
};

} // namespace wherry::vmm::mshvsim
