// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Codes of partition properties. `ex` are those of get_partition_property_ex.
namespace wherry::vmm::mshv::abi::properties {

inline constexpr std::uint32_t privilege_flags = 0x00010000; ///< before INITIALIZE only
inline constexpr std::uint32_t synthetic_processor_features = 0x00010001; ///< likewise
inline constexpr std::uint32_t suspend = 0x00020000;
inline constexpr std::uint32_t cpu_reserve = 0x00020001;
inline constexpr std::uint32_t cpu_cap = 0x00020002;
inline constexpr std::uint32_t cpu_weight = 0x00020003;
inline constexpr std::uint32_t cpu_group_id = 0x00020004;
inline constexpr std::uint32_t time_freeze = 0x00030003;
/// Units of 100 ns; written only while frozen.
inline constexpr std::uint32_t reference_time = 0x00030005;
inline constexpr std::uint32_t vsm_config = 0x00050001;
inline constexpr std::uint32_t zero_memory_on_reset = 0x00050002;
inline constexpr std::uint32_t processors_per_socket = 0x00050003;
inline constexpr std::uint32_t gpa_page_access_tracking = 0x00050005;
inline constexpr std::uint32_t isolation_state = 0x0005000c;
inline constexpr std::uint32_t isolation_control = 0x0005000d;
inline constexpr std::uint32_t implemented_physical_address_bits = 0x00050010;
/// 0: #GP; 1: reads as zero, writes ignored.
inline constexpr std::uint32_t unimplemented_msr_action = 0x00050017;
inline constexpr std::uint32_t processor_vendor = 0x00060000;
inline constexpr std::uint32_t processor_xsave_features = 0x00060002;
inline constexpr std::uint32_t compatibility_version = 0x00060005;
inline constexpr std::uint32_t physical_address_width = 0x00060006;
inline constexpr std::uint32_t xsave_states = 0x00060007; ///< mask in the form of XCR0
inline constexpr std::uint32_t max_xsave_data_size = 0x00060008;
inline constexpr std::uint32_t processor_clock_frequency = 0x00060009; ///< Hz
inline constexpr std::uint32_t processor_features0 = 0x0006000a;
inline constexpr std::uint32_t processor_features1 = 0x0006000b;
inline constexpr std::uint32_t guest_os_id = 0x00070000;

namespace ex {
inline constexpr std::uint32_t vmm_capabilities = 0x00090007;
inline constexpr std::uint32_t assignable_synthetic_processor_features = 0x00090009;
} // namespace ex

namespace access_tracking {
inline constexpr std::uint64_t enable = 1U << 0U;
inline constexpr std::uint64_t granularity = 1U << 1U;
} // namespace access_tracking

namespace vmm_capability {
inline constexpr std::uint64_t map_gpa_preserve_adjustable = 1U << 0U;
inline constexpr std::uint64_t overlay_gpfn = 1U << 1U;
inline constexpr std::uint64_t vp_affinity = 1U << 2U;
inline constexpr std::uint64_t gic_overlay = 1U << 3U;
inline constexpr std::uint64_t assignable_synthetic = 1U << 4U;
} // namespace vmm_capability

} // namespace wherry::vmm::mshv::abi::properties
