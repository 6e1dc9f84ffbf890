// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

namespace wherry::vmm {

/// The host's TSC and its real time, read as one.
struct HostMoment {
    std::uint64_t tsc = 0;
    std::chrono::nanoseconds real_time{0}; ///< CLOCK_REALTIME
};
HostMoment read_host_moment() noexcept;
std::uint64_t read_host_tsc() noexcept;

/// Ticks of a counter of `khz` in `time` (not negative), rounded down. Does not overflow before
/// the 64-bit counter itself does.
std::uint64_t ticks_in(std::chrono::nanoseconds time, std::uint64_t khz) noexcept;

/// Real time from `then` to `now`; zero where the clock went back, for a guest's time never does.
std::chrono::nanoseconds
passed(std::chrono::nanoseconds then, std::chrono::nanoseconds now) noexcept;

/// Whether KVM (and a guest's clock code) treat both as one frequency: 250 parts in a million,
/// the spread of two calibrations of equal processors.
bool same_frequency(std::uint64_t khz, std::uint64_t other_khz) noexcept;

} // namespace wherry::vmm
