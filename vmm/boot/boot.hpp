// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/generation_id.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/machine.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::vmm::boot {

/// The machine as the guest is told of it. RAM is what GuestMemory has.
struct PlatformOptions {
    std::uint32_t vcpus = 1;
    /// LAPICs and the IOAPIC exist. Where not, the guest gets no ACPI tables.
    bool has_interrupt_controller = true;
    /// In the guest's memory; ACPI tells where.
    GenerationId generation_id{};
};

/// What vCPU 0 starts with. The other vCPUs wait for INIT (RunState::uninitialized).
struct InitialVcpu {
    Registers registers;
    SystemRegisters system;
    /// For every vCPU, where the hypervisor has them: firmware's part of the MSRs (MTRRs).
    std::vector<Msr> msrs;
    std::string description; ///< "Linux bzImage 6.1.0, protocol 2.15"
};

/// Kernel and initrd as bytes from outside; nothing in them is trusted.
struct BootImages {
    std::span<const std::byte> kernel;
    std::span<const std::byte> initrd; ///< empty: none
    std::string_view command_line;
    std::string_view kernel_name; ///< for error texts
};

/// Recognises the kernel by its content, writes it, the initrd, the command line and the tables
/// of the platform into `memory`, and says how to start. Refuses with invalid_argument, in one
/// sentence, what is no kernel it knows and what does not fit RAM. The error of a half-done load
/// leaves `memory` with parts of it: the machine is of no more use.
formats::Result<InitialVcpu>
load(GuestMemory& memory, const BootImages& images, const PlatformOptions& options);

/// Reads the files, then as above.
formats::Result<InitialVcpu>
load(GuestMemory& memory, const BootSource& source, const PlatformOptions& options);

} // namespace wherry::vmm::boot
