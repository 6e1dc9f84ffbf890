// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::dirtylog {

/// How many different pages a guest dirties in an interval, by its length. A log counts a page
/// once, however often it was written, so this is no rate: it rises ever more slowly, and levels
/// off at the size of what the guest writes again and again. Pure.
class DirtyCurve {
public:
    /// What was seen of intervals of one length.
    struct Point {
        std::chrono::nanoseconds interval{}; ///< above 0
        double usual = 0;                    ///< pages: the median
        double high = 0;                     ///< and what 95 of 100 do not exceed
        std::uint32_t samples = 1;
    };

    /// A guest that writes nothing.
    DirtyCurve() = default;
    /// `points` ascend by their intervals. No answer is above `most`, the guest's memory.
    DirtyCurve(std::vector<Point> points, formats::PageCount most);

    /// Expected in an interval of this length, and what is rarely exceeded. Between points along a
    /// straight line, else along the exponential approach to a limit that the nearest points tell
    /// of. `high_in` takes the last increase as lasting: a limit that was not reached is none.
    [[nodiscard]] formats::PageCount usual_in(std::chrono::nanoseconds interval) const;
    [[nodiscard]] formats::PageCount high_in(std::chrono::nanoseconds interval) const;

    [[nodiscard]] std::span<const Point> points() const noexcept { return points_; }

private:
    enum class Beyond : std::uint8_t { levels_off, goes_on };
    [[nodiscard]] formats::PageCount
    read(double Point::* value, std::chrono::nanoseconds interval, Beyond beyond) const;

    std::vector<Point> points_;
    formats::PageCount most_;
};

} // namespace wherry::dirtylog
