// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/syscalls.hpp"
#include "vmm/mshvsim/choices.hpp"

#include <memory>
#include <string>

namespace wherry::vmm::mshvsim {

struct SimulatorOptions {
    Personality personality = Personality::v7_2;
    EngineChoice engine = EngineChoice::automatic;
    /// A file that gets one line for each ioctl and hypercall; empty: none. Appended to.
    std::string trace_file = {};
};

/// A /dev/mshv of this process. All descriptors it hands out are real ones (of memory files) and
/// closed by close() of the interface. The error says which engine is missing and why.
formats::Result<std::unique_ptr<mshv::Syscalls>> open_simulator(const SimulatorOptions& options);

} // namespace wherry::vmm::mshvsim
