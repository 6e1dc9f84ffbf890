// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_options.hpp"
#include "tools/cli/output.hpp"
#include "transport/endpoint.hpp"
#include "vmm/cpu_profile.hpp"
#include "vmm/machine.hpp"

#include <cstdint>
#include <filesystem>
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

/// Whether the arbiter of the migration that an image is of has a say when it is restored.
enum class AskArbiter : std::uint8_t { yes, no };

/// When a guest's memory comes out of its image.
enum class RestoreMemory : std::uint8_t {
    now,   ///< before the guest goes on
    ahead, ///< as the guest touches it, and ahead of that
    late,  ///< as the guest touches it
};

struct RestoreOptions {
    std::string name; ///< empty: the one that the image tells of
    vmm::MachineHost host;
    std::string image;             ///< a path, or "-": what comes from standard input
    migrate::ImageAccess access{}; ///< keys
    std::filesystem::path bases{}; ///< where base images are; empty: beside the image
    StartState start = StartState::running;
    RestoreMemory memory = RestoreMemory::now;
    /// Of several VMs that are made of the image: a new one, whatever the image is of.
    bool is_clone = false;
    /// The source's half alone, as the guest was at the switch to post-copy.
    bool as_of_switch = false;
    AskArbiter arbiter = AskArbiter::yes;
};

/// The process becomes the VMM instance of one VM, with its API under the name, until the VM has
/// ended, was killed or has been handed over. Errors are printed. Signals INT and TERM end the VM.
ExitCode run_instance(const RunOptions& options);
/// As above for a VM that is yet to arrive. Peers that fail to bring one are reported and
/// forgotten, until a migration has begun: its failure ends the process.
ExitCode receive_instance(const ReceiveOptions& options);
/// As run_instance, for the VM that is in an image.
ExitCode restore_instance(const RestoreOptions& options);
/// So many processes, NAME-1, NAME-2..., each with a new VM of the image. `%n` in the serial output
/// is a clone's name. Until all have ended; failed where one of them has. Signals INT and TERM are
/// passed on. To be called while the process has no other threads.
ExitCode restore_clones(const RestoreOptions& options, unsigned count);

} // namespace wherry::tools
