// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_rate.hpp"

#include "formats/error.hpp"

#include <algorithm>
#include <cmath>

namespace wherry::dirtylog {

namespace {

double seconds(std::chrono::nanoseconds duration) {
    return std::chrono::duration<double>{duration}.count();
}

} // namespace

DirtyRate::DirtyRate(std::chrono::nanoseconds half_life) : half_life_s_{seconds(half_life)} {
    formats::invariant(half_life.count() > 0, "a half-life is longer than nothing");
}

void DirtyRate::add(formats::PageCount pages, std::chrono::nanoseconds duration) {
    if (duration.count() <= 0) {
        return;
    }
    const double rate = static_cast<double>(pages.value()) / seconds(duration);
    // What is kept of everything older once `duration` has passed; the sample has the rest. The
    // weight makes the first samples count in full although nothing came before them.
    const double kept = std::exp2(-seconds(duration) / half_life_s_);
    const double weight = weight_ * kept + (1 - kept);
    mean_ = (mean_ * weight_ * kept + rate * (1 - kept)) / weight;
    weight_ = weight;
    largest_ = std::max(largest_, rate);
}

formats::PageCount DirtyRate::expected_in(std::chrono::nanoseconds interval) const noexcept {
    const double pages = std::max(0.0, std::ceil(mean_ * seconds(interval)));
    constexpr double most = 0x1p52; // every page there can be
    return formats::PageCount{static_cast<std::uint64_t>(std::min(pages, most))};
}

} // namespace wherry::dirtylog
