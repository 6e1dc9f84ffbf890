// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_curve.hpp"

#include "formats/error.hpp"

#include <algorithm>
#include <cmath>

namespace wherry::dirtylog {

namespace {

struct At {
    double seconds = 0;
    double pages = 0;
};

/// Pages at a time before `first`, on limit * (1 - x^t) through both: x tells how much of the
/// second interval's pages were new. With one point, or none of them repeated: a straight line.
double before(At first, const At* second, double seconds) {
    const double share = seconds / first.seconds;
    if (second == nullptr || first.pages <= 0) {
        return first.pages * share;
    }
    // As if the second were twice as long as the first, where it is not.
    const double steps = second->seconds / first.seconds - 1;
    const double fresh = (second->pages / first.pages - 1) / std::max(steps, 1e-9);
    if (fresh >= 1) {
        return first.pages * share;
    }
    const double x = std::max(fresh, 0.0);
    return first.pages * (1 - std::pow(x, share)) / (1 - x);
}

/// What is added at `seconds` behind the last of three points, by how the increase between them
/// changes: increases per second fall by the same factor in the same time.
double levelling(At a, At b, At c, double seconds) {
    const double early = (b.pages - a.pages) / (b.seconds - a.seconds);
    const double late = (c.pages - b.pages) / (c.seconds - b.seconds);
    const double further = seconds - c.seconds;
    if (late <= 0) {
        return 0;
    }
    if (late >= early) {
        return late * further;
    }
    // Mean increases belong to the middles of their intervals.
    const double apart = (c.seconds - a.seconds) / 2;
    const double decay = std::log(early / late) / apart;
    const double at_end = late * std::exp(-decay * (c.seconds - b.seconds) / 2);
    return at_end * (1 - std::exp(-decay * further)) / decay;
}

} // namespace

DirtyCurve::DirtyCurve(std::vector<Point> points, formats::PageCount most)
    : points_{std::move(points)},
      most_{most} {
    for (std::size_t i = 0; i < points_.size(); ++i) {
        Point& point = points_[i];
        formats::invariant(point.interval.count() > 0, "an interval of a dirty curve has a length");
        point.high = std::max(point.high, point.usual);
        if (i == 0) {
            continue;
        }
        const Point& shorter = points_[i - 1];
        formats::invariant(
            shorter.interval < point.interval, "the intervals of a dirty curve ascend");
        // More time never means fewer pages; samples of different moments may say so.
        point.usual = std::max(point.usual, shorter.usual);
        point.high = std::max(point.high, shorter.high);
    }
}

formats::PageCount DirtyCurve::usual_in(std::chrono::nanoseconds interval) const {
    return read(&Point::usual, interval, Beyond::levels_off);
}

formats::PageCount DirtyCurve::high_in(std::chrono::nanoseconds interval) const {
    return read(&Point::high, interval, Beyond::goes_on);
}

formats::PageCount
DirtyCurve::read(double Point::* value, std::chrono::nanoseconds interval, Beyond beyond) const {
    if (points_.empty() || interval.count() <= 0) {
        return formats::PageCount{0};
    }
    const auto at = [&](std::size_t i) {
        return At{
            .seconds = std::chrono::duration<double>{points_[i].interval}.count(),
            .pages = points_[i].*value};
    };
    const double seconds = std::chrono::duration<double>{interval}.count();
    const std::size_t count = points_.size();
    double pages = 0;
    if (seconds <= at(0).seconds) {
        const At second = count > 1 ? at(1) : At{};
        pages = before(at(0), count > 1 ? &second : nullptr, seconds);
    } else if (seconds <= at(count - 1).seconds) {
        std::size_t i = 1;
        while (at(i).seconds < seconds) {
            ++i;
        }
        const At from = at(i - 1);
        const At to = at(i);
        pages = from.pages +
                (to.pages - from.pages) * (seconds - from.seconds) / (to.seconds - from.seconds);
    } else {
        const At last = at(count - 1);
        // One that starts at nothing stands for the points that are not there.
        const At second = count > 1 ? at(count - 2) : At{};
        const At third = count > 2 ? at(count - 3) : At{};
        const double lasting = (last.pages - second.pages) / (last.seconds - second.seconds) *
                               (seconds - last.seconds);
        pages = last.pages + (beyond == Beyond::goes_on || count < 2
                                  ? lasting
                                  : levelling(third, second, last, seconds));
    }
    const auto most = static_cast<double>(most_.value());
    return formats::PageCount{
        static_cast<std::uint64_t>(std::clamp(std::ceil(pages - 1e-6), 0.0, most))};
}

} // namespace wherry::dirtylog
