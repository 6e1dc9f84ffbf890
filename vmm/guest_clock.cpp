// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_clock.hpp"

#include <algorithm>
#include <limits>
#include <x86intrin.h>

#include <time.h>

namespace wherry::vmm {

using std::chrono::nanoseconds;

std::uint64_t read_host_tsc() noexcept {
    unsigned processor = 0;
    return __rdtscp(&processor);
}

HostMoment read_host_moment() noexcept {
    HostMoment best;
    std::uint64_t best_width = std::numeric_limits<std::uint64_t>::max();
    for (int attempt = 0; attempt < 5; ++attempt) {
        timespec now{};
        const std::uint64_t before = read_host_tsc();
        ::clock_gettime(CLOCK_REALTIME, &now); // cannot fail: the clock exists
        const std::uint64_t width = read_host_tsc() - before;
        if (width < best_width) {
            best_width = width;
            best = {
                .tsc = before + width / 2,
                .real_time = std::chrono::seconds{now.tv_sec} + nanoseconds{now.tv_nsec}};
        }
    }
    return best;
}

std::uint64_t ticks_in(nanoseconds time, std::uint64_t khz) noexcept {
    constexpr std::uint64_t nanoseconds_per_millisecond = 1'000'000;
    const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(0, time.count()));
    const std::uint64_t whole = count / nanoseconds_per_millisecond;
    const std::uint64_t rest = count % nanoseconds_per_millisecond;
    return whole * khz + rest * khz / nanoseconds_per_millisecond;
}

nanoseconds passed(nanoseconds then, nanoseconds now) noexcept {
    return std::max(nanoseconds{0}, now - then);
}

bool same_frequency(std::uint64_t khz, std::uint64_t other_khz) noexcept {
    const std::uint64_t difference = khz > other_khz ? khz - other_khz : other_khz - khz;
    return difference <= other_khz / 4000;
}

} // namespace wherry::vmm
