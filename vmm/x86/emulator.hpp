// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"
#include "vmm/x86/cpu_state.hpp"

#include <cstddef>
#include <optional>
#include <span>

namespace wherry::vmm::x86 {

/// What one instruction did to the vCPU. Memory and devices have been written already.
struct Outcome {
    /// All general registers, RIP and RFLAGS as they are now. RIP is that of the next instruction,
    /// or still that of this one: after a fault, and where a REP has more to do than one call does
    /// (repetitions_per_call); the guest then executes it again, which leads back here.
    Registers registers;
    /// To be delivered with `registers` in place; a fault, or the trap of a single step.
    std::optional<Exception> exception;
};

/// So that a vCPU in a long REP can be interrupted, kicked and saved in between.
inline constexpr unsigned repetitions_per_call = 1024;

/// Emulates the one instruction at CS:RIP: MMIO, and string port I/O.
///
/// Each byte of a memory operand goes where its guest physical address says: RAM is in `memory`,
/// anything else is the handler's memory_read and memory_write. These come in pieces of 1, 2, 4 or
/// 8 bytes that do not cross a page; IN, INS, OUT and OUTS go to its ports. A fault is found
/// before the first byte of an iteration is read or written.
///
/// `fetched` are the bytes at CS:RIP where the hypervisor delivered them; may be empty or short,
/// the rest is then fetched through the guest's page tables.
///
/// Port permissions (IOPL, TSS bitmap) have been checked by whoever intercepted the access. The
/// caller ends an interrupt shadow that the instruction was in. Data breakpoints do not trigger.
///
/// An Error with code `unsupported` names the instruction and its bytes where it is none of those
/// listed in vmm/x86/README.md; nothing has been changed then.
formats::Result<Outcome> emulate(
    const CpuState& cpu,
    GuestMemory& memory,
    ExitHandler& handler,
    std::span<const std::byte> fetched = {});

} // namespace wherry::vmm::x86
