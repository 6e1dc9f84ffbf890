// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// What GET_VP_STATE and SET_VP_STATE move.
namespace wherry::vmm::mshv::abi::vp_state {

inline constexpr std::uint8_t lapic = 0;
inline constexpr std::uint8_t xsave = 1; ///< compacted form; max_xsave_data_size bytes
inline constexpr std::uint8_t simp = 2;  ///< SynIC message page
inline constexpr std::uint8_t siefp = 3; ///< SynIC event flags page
inline constexpr std::uint8_t synthetic_timers = 4;
inline constexpr std::uint8_t types = 5;

/// At the start of a page. The task priority is in CR8, the base in APIC_BASE.
struct Lapic {
    std::uint32_t id = 0;
    std::uint32_t version = 0;
    std::uint32_t ldr = 0;
    std::uint32_t dfr = 0;
    std::uint32_t spurious = 0;
    std::array<std::uint32_t, 8> isr{};
    std::array<std::uint32_t, 8> tmr{};
    std::array<std::uint32_t, 8> irr{};
    std::uint32_t esr = 0;
    std::uint32_t icr_high = 0;
    std::uint32_t icr_low = 0;
    std::uint32_t lvt_timer = 0;
    std::uint32_t lvt_thermal = 0;
    std::uint32_t lvt_perfmon = 0;
    std::uint32_t lvt_lint0 = 0;
    std::uint32_t lvt_lint1 = 0;
    std::uint32_t lvt_error = 0;
    std::uint32_t lvt_cmci = 0;
    std::uint32_t error_status = 0;
    std::uint32_t initial_count = 0;
    std::uint32_t current_count = 0;
    std::uint32_t divide_configuration = 0;
    std::uint32_t remote_read = 0;
};
static_assert(sizeof(Lapic) == 176);
static_assert(offsetof(Lapic, isr) == 20 && offsetof(Lapic, tmr) == 52);
static_assert(offsetof(Lapic, irr) == 84 && offsetof(Lapic, esr) == 116);
static_assert(offsetof(Lapic, lvt_timer) == 128 && offsetof(Lapic, lvt_lint0) == 140);
static_assert(offsetof(Lapic, lvt_cmci) == 152 && offsetof(Lapic, initial_count) == 160);

struct SyntheticTimer {
    std::uint32_t flags = 0; ///< bit 0: a message is not delivered yet
    std::uint32_t reserved = 0;
    std::uint64_t config = 0; ///< synthetic_timer_config
    std::uint64_t count = 0;
    std::uint64_t adjustment = 0;
    std::uint64_t undelivered_expiration_time = 0;
};
static_assert(sizeof(SyntheticTimer) == 40);

struct SyntheticTimers {
    std::array<SyntheticTimer, 4> timers;
    std::array<std::uint64_t, 5> reserved{};
};
static_assert(sizeof(SyntheticTimers) == 200);

namespace synthetic_timer_config {
inline constexpr std::uint64_t enable = 1U << 0U;
inline constexpr std::uint64_t periodic = 1U << 1U;
inline constexpr std::uint64_t lazy = 1U << 2U;
inline constexpr std::uint64_t auto_enable = 1U << 3U;
inline constexpr std::uint64_t vector = 0xffU << 4U;
inline constexpr std::uint64_t direct = 1U << 12U;
inline constexpr std::uint64_t sint = 0xfU << 16U;
} // namespace synthetic_timer_config

} // namespace wherry::vmm::mshv::abi::vp_state
