// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/latency_histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace wherry::migrate {

/// Below eight microseconds each one has a bucket; above, an octave is cut into eight.
std::size_t LatencyHistogram::bucket_of(Duration took) noexcept {
    const auto counted = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
    const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(counted, 0));
    if (us < steps) {
        return static_cast<std::size_t>(us);
    }
    const auto octave = static_cast<std::size_t>(std::bit_width(us)) - 1; // 3 and up
    const auto step = static_cast<std::size_t>(us >> (octave - 3U)) - steps;
    return std::min((octave - 2) * steps + step, steps * octaves - 1);
}

LatencyHistogram::Duration LatencyHistogram::upper_bound(std::size_t bucket) noexcept {
    if (bucket < steps) {
        return std::chrono::microseconds{bucket + 1};
    }
    const std::size_t octave = bucket / steps + 2;
    const std::uint64_t end = (bucket % steps + steps + 1) << (octave - 3U);
    return std::chrono::microseconds{end};
}

void LatencyHistogram::record(Duration took) noexcept {
    ++buckets_.at(bucket_of(took));
    ++count_;
    longest_ = std::max(longest_, took);
}

void LatencyHistogram::merge(const LatencyHistogram& other) noexcept {
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
        buckets_.at(i) += other.buckets_.at(i);
    }
    count_ += other.count_;
    longest_ = std::max(longest_, other.longest_);
}

LatencyHistogram::Duration LatencyHistogram::percentile(double percent) const noexcept {
    const double share = std::clamp(percent, 0.0, 100.0) / 100.0;
    const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
        seen += buckets_.at(i);
        if (seen > 0 && seen >= wanted) {
            return i + 1 == buckets_.size() ? longest_ : std::min(upper_bound(i), longest_);
        }
    }
    return Duration::zero();
}

} // namespace wherry::migrate
