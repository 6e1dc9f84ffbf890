// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"

#include <array>
#include <cstdint>
#include <vector>

namespace wherry::vmm::mshvsim {

/// Feature banks as the hypervisor's properties give them: a set bit is offered.
struct FeatureBanks {
    std::array<std::uint64_t, 2> processor{};
    std::uint64_t xsave = 0;
};

/// What this engine can offer.
FeatureBanks features_of(const EngineCapabilities& engine);
/// Synthetic features that are really there with this engine.
std::uint64_t assignable_synthetic_features(const EngineCapabilities& engine);

/// CPUID as the hypervisor answers by itself: the engine's, without what is hidden.
std::vector<CpuidEntry>
base_cpuid(const EngineCapabilities& engine, const FeatureBanks& offered, std::uint64_t synthetic);

/// Components that XCR0 may name, and the size of their compacted XSAVE image.
std::uint64_t xsave_states(const EngineCapabilities& engine, const FeatureBanks& offered);
std::uint32_t compacted_size(const std::vector<CpuidEntry>& cpuid, std::uint64_t states);

/// A component's place in the standard form, and how the compacted form lays it out.
struct XsaveComponent {
    std::uint32_t size = 0, standard_offset = 0;
    bool is_aligned = false; ///< to 64 bytes
};
XsaveComponent component_of(const std::vector<CpuidEntry>& cpuid, unsigned number);

std::uint32_t physical_address_bits(const EngineCapabilities& engine);

} // namespace wherry::vmm::mshvsim
