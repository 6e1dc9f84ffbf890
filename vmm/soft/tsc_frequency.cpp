// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/tsc_frequency.hpp"

#include "vmm/unique_fd.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <x86intrin.h>

#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace wherry::vmm::soft {

namespace {

std::uint64_t raw_clock_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

/// The kernel converts TSC ticks to ns by (ticks * mult) >> shift, and shows both numbers.
std::optional<std::uint64_t> frequency_of_kernel() {
    perf_event_attr attributes{};
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.size = sizeof attributes;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    const UniqueFd event{static_cast<int>(
        ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC))};
    if (!event.is_open()) {
        return std::nullopt;
    }
    const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, event.get(), 0);
    if (mapped == MAP_FAILED) {
        return std::nullopt;
    }
    const auto& page = *static_cast<const perf_event_mmap_page*>(mapped);
    std::optional<std::uint64_t> khz;
    if (page.cap_user_time != 0 && page.time_mult != 0) {
        const long double ticks_a_ns =
            static_cast<long double>(std::uint64_t{1} << page.time_shift) / page.time_mult;
        khz = static_cast<std::uint64_t>(ticks_a_ns * 1e6L + 0.5L);
    }
    ::munmap(mapped, size);
    return khz;
}

/// Reads both clocks as close together as the host allows: the tightest of several tries.
struct ClockPair {
    std::uint64_t ticks, ns;
};
ClockPair read_together() noexcept {
    ClockPair best{};
    std::uint64_t tightest = ~std::uint64_t{0};
    for (int attempt = 0; attempt < 20; ++attempt) {
        const std::uint64_t before = __rdtsc();
        const std::uint64_t ns = raw_clock_ns();
        const std::uint64_t after = __rdtsc();
        if (after - before < tightest) {
            tightest = after - before;
            best = {.ticks = before + (after - before) / 2, .ns = ns};
        }
    }
    return best;
}

std::uint64_t measured_frequency() {
    constexpr std::uint64_t span_ns = 20'000'000;
    constexpr std::uint64_t step_khz = 100; // finer would differ from one process to the next
    const ClockPair first = read_together();
    ClockPair last = first;
    while (last.ns - first.ns < span_ns) {
        last = read_together();
    }
    const long double khz = static_cast<long double>(last.ticks - first.ticks) * 1e6L /
                            static_cast<long double>(last.ns - first.ns);
    return static_cast<std::uint64_t>(khz / step_khz + 0.5L) * step_khz;
}

} // namespace

std::uint64_t host_tsc_frequency_khz() {
    static const std::uint64_t khz = [] {
        const auto known = frequency_of_kernel();
        return known ? *known : measured_frequency();
    }();
    return khz;
}

} // namespace wherry::vmm::soft
