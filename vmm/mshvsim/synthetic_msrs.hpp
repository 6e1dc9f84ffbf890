// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

namespace wherry::vmm::mshvsim {

/// An MSR of Hyper-V's (Top Level Functional Specification, appendix on MSRs).
struct SyntheticMsr {
    std::uint32_t name = 0;    ///< of the register that it is
    std::uint64_t feature = 0; ///< abi/synthetic_features.hpp: without it, there is no such MSR
    bool is_writable = false;
};
std::optional<SyntheticMsr> synthetic_msr(std::uint32_t index);

} // namespace wherry::vmm::mshvsim
