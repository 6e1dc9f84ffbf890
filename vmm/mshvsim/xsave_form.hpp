// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace wherry::vmm::mshvsim {

/// From the standard form of an XSAVE area to the compacted one with exactly these states (SDM
/// vol. 1, 13.4.3), and back. `cpuid`: the engine's leaf 0xD.
std::vector<std::byte> compacted(
    std::span<const std::byte> standard,
    const std::vector<CpuidEntry>& cpuid,
    std::uint64_t states,
    std::size_t size);
/// Nothing where the header is not that of a compacted image of these states at most.
std::optional<std::vector<std::byte>> standard_form(
    std::span<const std::byte> compacted,
    const std::vector<CpuidEntry>& cpuid,
    std::uint64_t states);

} // namespace wherry::vmm::mshvsim
