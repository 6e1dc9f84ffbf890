# SPDX-License-Identifier: Apache-2.0
set(vmm_kvm_sources
  kvm/clock.cpp
  kvm/cpuid.cpp
  kvm/memory_slots.cpp
  kvm/msrs.cpp
  kvm/partition.cpp
  kvm/registers.cpp
  kvm/run_area.cpp
  kvm/system.cpp
  kvm/tsc.cpp
  kvm/vcpu.cpp
  kvm/vcpu_state.cpp
  kvm/xsave.cpp)
