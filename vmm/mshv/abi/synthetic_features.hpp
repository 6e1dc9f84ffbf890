// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Bits of the property synthetic_processor_features: what of Hyper-V the guest is offered.
namespace wherry::vmm::mshv::abi::synthetic_features {

inline constexpr std::uint64_t hypervisor_present = 1ULL << 0U;
inline constexpr std::uint64_t hv1 = 1ULL << 1U;
inline constexpr std::uint64_t vp_runtime = 1ULL << 2U;
inline constexpr std::uint64_t reference_counter = 1ULL << 3U;
inline constexpr std::uint64_t synic = 1ULL << 4U;
inline constexpr std::uint64_t synthetic_timers = 1ULL << 5U;
inline constexpr std::uint64_t interrupt_control = 1ULL << 6U;
inline constexpr std::uint64_t hypercall = 1ULL << 7U;
inline constexpr std::uint64_t vp_index = 1ULL << 8U;
inline constexpr std::uint64_t reference_tsc = 1ULL << 9U;
inline constexpr std::uint64_t guest_idle = 1ULL << 10U;
inline constexpr std::uint64_t frequency = 1ULL << 11U;
inline constexpr std::uint64_t extended_gva_ranges = 1ULL << 15U;
inline constexpr std::uint64_t vsm = 1ULL << 16U;
inline constexpr std::uint64_t fast_hypercall_output = 1ULL << 18U;
inline constexpr std::uint64_t start_vp = 1ULL << 20U;
inline constexpr std::uint64_t direct_synthetic_timers = 1ULL << 22U;
inline constexpr std::uint64_t extended_processor_masks = 1ULL << 24U;
inline constexpr std::uint64_t tlb_flush = 1ULL << 25U;
inline constexpr std::uint64_t cluster_ipi = 1ULL << 26U;
inline constexpr std::uint64_t long_spin_wait = 1ULL << 27U;
inline constexpr std::uint64_t numa_distance = 1ULL << 28U;
inline constexpr std::uint64_t signal_events = 1ULL << 29U;
inline constexpr std::uint64_t retarget_interrupt = 1ULL << 30U;
inline constexpr std::uint64_t restore_time = 1ULL << 31U;
inline constexpr std::uint64_t enlightened_vmcs = 1ULL << 32U;
inline constexpr std::uint64_t nested_debug_control = 1ULL << 33U;
inline constexpr std::uint64_t time_unhalted_timer = 1ULL << 34U;
inline constexpr std::uint64_t idle_speculation_control = 1ULL << 35U;
inline constexpr std::uint64_t wake_vps = 1ULL << 37U;
inline constexpr std::uint64_t access_vp_registers = 1ULL << 38U;
inline constexpr std::uint64_t management_vtl_synic = 1ULL << 40U;
inline constexpr std::uint64_t mmio_hypercalls = 1ULL << 43U;
inline constexpr std::uint64_t event_log = 1ULL << 45U;
inline constexpr std::uint64_t install_intercept = 1ULL << 48U;
inline constexpr std::uint64_t pin_gpa = 1ULL << 50U;
inline constexpr std::uint64_t heat_hint = 1ULL << 51U;
inline constexpr std::uint64_t ring_buffer_ports = 1ULL << 52U;
inline constexpr std::uint64_t flush_gpa_space = 1ULL << 53U;

} // namespace wherry::vmm::mshv::abi::synthetic_features
