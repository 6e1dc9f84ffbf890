// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace wherry::migrate {

/// Counts of durations in buckets whose width is an eighth of their value at most, from 1 us to
/// more than an hour; what is longer counts as the longest bucket. Constant size, no allocation.
/// Not thread-safe.
class LatencyHistogram {
public:
    using Duration = std::chrono::steady_clock::duration;

    void record(Duration took) noexcept;
    void merge(const LatencyHistogram& other) noexcept;

    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    /// The longest recorded, exactly; zero where nothing was.
    [[nodiscard]] Duration longest() const noexcept { return longest_; }
    /// No less than `percent` (0 to 100) of all durations were as short as this: the upper bound of
    /// a bucket, never above longest(). Zero where nothing was recorded.
    [[nodiscard]] Duration percentile(double percent) const noexcept;

private:
    /// Eight buckets for each power of two of microseconds.
    static constexpr std::size_t steps = 8;
    static constexpr std::size_t octaves = 32;

    static std::size_t bucket_of(Duration took) noexcept;
    static Duration upper_bound(std::size_t bucket) noexcept;

    std::array<std::uint64_t, steps * octaves> buckets_{};
    std::uint64_t count_ = 0;
    Duration longest_{};
};

} // namespace wherry::migrate
