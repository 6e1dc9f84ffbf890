// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/vp_state.hpp"
#include "vmm/vcpu_state.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

/// The hypervisor's form of a local APIC and the canonical register page. Pure functions.
namespace wherry::vmm::mshv {

using LapicPage = std::array<std::byte, 1024>;

/// Task priority and mode are not in the hypervisor's form, but in CR8 and the APIC base.
LapicPage
canonical_lapic(const abi::vp_state::Lapic& from, std::uint64_t cr8, std::uint64_t apic_base);
/// `current` gives what the page does not say: id and version, which are the hypervisor's.
abi::vp_state::Lapic
native_lapic(const LapicPage& page, const abi::vp_state::Lapic& current) noexcept;

/// LINT0 for an external interrupt controller, LINT1 for NMI, masked or not as they are: what
/// firmware would leave behind.
void wire_local_interrupts(abi::vp_state::Lapic& lapic) noexcept;

} // namespace wherry::vmm::mshv
