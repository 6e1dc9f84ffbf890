// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/abi/registers.hpp"
#include "vmm/vcpu_state.hpp"
#include "vmm/x86/cpu_state.hpp"

#include <cstdint>

namespace wherry::vmm::mshv {

/// The registers that say what is on its way into the VP, as they are.
struct EventRegisters {
    std::uint64_t pending_interruption = 0;
    std::uint64_t interrupt_state = 0;
    abi::RegisterValue pending_event0{};
    std::uint64_t internal_activity = 0;
    friend bool operator==(const EventRegisters&, const EventRegisters&) = default;
};

/// `may_be_interrupted`: RFLAGS.IF. The hypervisor has one interrupt shadow for STI and MOV SS;
/// with interrupts off it can only be the latter's.
PendingEvents canonical_events(const EventRegisters& from, bool may_be_interrupted) noexcept;
RunState canonical_run_state(const EventRegisters& from) noexcept;

/// `incompatible`, naming it, for what the hypervisor has no register for: SMM, a triple fault on
/// its way, a SIPI that was received and not acted on. A pending NMI is not among the registers:
/// it is asserted.
formats::Result<EventRegisters> native_events(const PendingEvents& events, RunState run_state);

/// pending_event0 for an exception that an emulated instruction raises.
abi::RegisterValue native_exception(const x86::Exception& exception) noexcept;

} // namespace wherry::vmm::mshv
