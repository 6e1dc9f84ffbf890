// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <chrono>

namespace wherry::dirtylog {

/// How fast a guest dirties pages, from successive collections. Pure: time comes in.
///
/// A log counts a page once however often it is written, so a long interval shows a lower rate
/// than the guest's. Weights follow the length of the intervals.
class DirtyRate {
public:
    /// `half_life`: how long it takes for a sample to lose half of its weight.
    explicit DirtyRate(std::chrono::nanoseconds half_life = std::chrono::seconds{2});

    /// `pages` were dirtied in `duration`. Samples without a duration are ignored.
    void add(formats::PageCount pages, std::chrono::nanoseconds duration);

    /// Exponentially weighted mean; 0 before the first sample.
    [[nodiscard]] double pages_per_second() const noexcept { return mean_; }
    /// The largest single sample.
    [[nodiscard]] double largest_pages_per_second() const noexcept { return largest_; }
    /// Expected in `interval` from now, by the mean.
    [[nodiscard]] formats::PageCount expected_in(std::chrono::nanoseconds interval) const noexcept;

private:
    double half_life_s_;
    double mean_ = 0;
    double weight_ = 0;
    double largest_ = 0;
};

} // namespace wherry::dirtylog
