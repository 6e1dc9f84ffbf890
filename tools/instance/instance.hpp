// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tools/cli/output.hpp"
#include "transport/endpoint.hpp"
#include "vmm/cpu_profile.hpp"
#include "vmm/machine.hpp"

#include <string>

namespace wherry::tools {

enum class StartState : std::uint8_t { running, paused };

struct RunOptions {
    std::string name;
    vmm::MachineConfig config;
    vmm::CpuProfile cpu = vmm::CpuProfile::host;
    vmm::MachineHost host;
    vmm::BootSource boot;
    StartState start = StartState::running;
};

struct ReceiveOptions {
    std::string name;
    vmm::MachineHost host;
    transport::Endpoint listen;
    std::string tls_directory; ///< empty: plain TCP
};

/// The process becomes the VMM instance of one VM, with its API under the name, until the VM has
/// ended, was killed or has been handed over. Errors are printed. Signals INT and TERM end the VM.
ExitCode run_instance(const RunOptions& options);
/// As above for a VM that is yet to arrive. Peers that fail to bring one are reported and
/// forgotten, until a migration has begun: its failure ends the process.
ExitCode receive_instance(const ReceiveOptions& options);

} // namespace wherry::tools
