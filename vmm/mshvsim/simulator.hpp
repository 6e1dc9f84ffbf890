// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/syscalls.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace wherry::vmm::mshvsim {

/// Whose /dev/mshv is imitated: what kernels do differently with guest memory (README.md).
enum class Personality : std::uint8_t {
    v6_18, ///< guest memory is pinned when it is mapped; host addresses may not overlap
    v7_2,  ///< memory is mapped at first touch; a page that userfaultfd holds back is an intercept
    v7_3,  ///< memory is mapped at first touch; a page that userfaultfd holds back is waited for
};

/// What runs the guest.
enum class EngineChoice : std::uint8_t { automatic, kvm, soft };

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
