// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace wherry::vmm::mshv {

/// What a partition is made with: feature bits to hide (abi/processor_features.hpp), and synthetic
/// features to offer (abi/synthetic_features.hpp).
struct PartitionFeatures {
    std::array<std::uint64_t, 2> disabled{};
    std::uint64_t disabled_xsave = 0;
    std::uint64_t synthetic = 0;
    friend bool operator==(const PartitionFeatures&, const PartitionFeatures&) = default;
};

/// Pure. For a guest that sees `guest`: hidden is what it does not see, so that a partition made
/// on another host for the same guest has the same registers and XSAVE areas. An empty `guest` sees
/// all that there is but what cannot be migrated: nested virtualisation and the TSC-deadline timer
/// (the hypervisor tells the state of neither), AMX and other late XSAVE components, and 5-level
/// paging. Synthetic features go to guests that see Hyper-V's CPUID leaves and to an empty `guest`.
///
/// `available` are the host's bits, what it lacks is hidden too; `assignable`: synthetic features
/// the host can offer, absent where it does not say.
PartitionFeatures choose_features(
    std::span<const CpuidEntry> guest,
    const std::array<std::uint64_t, 2>& available,
    std::optional<std::uint64_t> assignable);

} // namespace wherry::vmm::mshv
