// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/descriptor.hpp"
#include "vmm/mshv/vp_registers.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstdint>

/// The synthetic part of a VP's state. `features` are the partition's synthetic processor features
/// (abi/synthetic_features.hpp): what these do not offer is neither read nor written.
namespace wherry::vmm::mshv {

/// All of HyperVState but the APIC, the events and interrupt_vectors.
formats::Status read_synthetic(
    const Descriptor& vp,
    const VpRegisters& registers,
    std::uint64_t features,
    std::uint32_t index,
    HyperVState& state);

/// What a fresh VP does not have by itself already is written. `incompatible` where the state has
/// what the features do not offer.
formats::Status write_partition_registers(
    const VpRegisters& registers, std::uint64_t features, const HyperVState& state);
formats::Status write_synic(
    const Descriptor& vp,
    const VpRegisters& registers,
    std::uint64_t features,
    const HyperVState& state);
formats::Status
write_timers(const Descriptor& vp, std::uint64_t features, const HyperVState& state);

} // namespace wherry::vmm::mshv
