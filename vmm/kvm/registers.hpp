// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <linux/kvm.h>

/// Canonical state from and to KVM's structures. Pure.
namespace wherry::vmm::kvm {

Registers canonical(const kvm_regs& from);
kvm_regs native(const Registers& from);

SystemRegisters canonical(const kvm_sregs& from);
/// The interrupt bitmap stays empty: PendingEvents carry what it would.
kvm_sregs native(const SystemRegisters& from);

DebugRegisters canonical(const kvm_debugregs& from);
kvm_debugregs native(const DebugRegisters& from);

PendingEvents canonical(const kvm_vcpu_events& from);
/// `flags`: the KVM_VCPUEVENT_VALID_* that the VM has enabled.
kvm_vcpu_events native(const PendingEvents& from, std::uint32_t flags);

} // namespace wherry::vmm::kvm
