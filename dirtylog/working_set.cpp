// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/working_set.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace wherry::dirtylog {

namespace {

/// 2^15 of even the shortest harvests are far more than anyone waits for.
constexpr std::size_t most_levels = 16;
/// Fewer samples do not tell of their spread: it is then that of the next shorter length at least.
constexpr std::uint32_t enough_samples = 5;

} // namespace

WorkingSet::WorkingSet(std::span<const formats::PageRange> ram) : empty_{ram}, all_{ram} {}

WorkingSet::WorkingSet(const vmm::GuestMemory& memory) : empty_{memory}, all_{memory} {}

void WorkingSet::add(const DirtySet& harvest, std::chrono::nanoseconds length) {
    if (length.count() <= 0) {
        return;
    }
    all_.merge(harvest);
    length_ += length;
    DirtySet carried = harvest;
    // As a binary counter: two full samples of one level are one of the next.
    for (std::size_t i = 0; i < most_levels; ++i) {
        if (i == levels_.size()) {
            levels_.push_back(Level{.pages = empty_, .length = {}, .halves = 0, .samples = {}});
        }
        Level& level = levels_[i];
        level.samples.push_back(
            {.length = length, .pages = static_cast<double>(carried.count().value())});
        level.pages.merge(carried);
        level.length += length;
        if (++level.halves < 2) {
            return;
        }
        carried = std::exchange(level.pages, empty_);
        length = std::exchange(level.length, {});
        level.halves = 0;
    }
}

formats::PageCount WorkingSet::written() const {
    return all_.count();
}

DirtyCurve::Point WorkingSet::point_of(std::vector<Sample> samples) {
    std::ranges::sort(samples, {}, &Sample::pages);
    const auto whole = std::accumulate(
        samples.begin(),
        samples.end(),
        std::chrono::nanoseconds{0},
        [](std::chrono::nanoseconds sum, const Sample& one) { return sum + one.length; });
    const auto count = samples.size();
    const auto at_95 = static_cast<std::size_t>(std::ceil(0.95 * static_cast<double>(count))) - 1;
    return {
        .interval = whole / static_cast<std::int64_t>(count),
        .usual = (samples[(count - 1) / 2].pages + samples[count / 2].pages) / 2,
        .high = samples[at_95].pages,
        .samples = static_cast<std::uint32_t>(count)};
}

DirtyCurve WorkingSet::curve() const {
    formats::PageCount most;
    for (const PageBitmap& region : all_.bitmaps()) {
        most += region.pages().count();
    }
    std::vector<DirtyCurve::Point> points;
    const auto append = [&points](DirtyCurve::Point point) {
        if (!points.empty() && point.samples < enough_samples && points.back().usual > 0) {
            const DirtyCurve::Point& shorter = points.back();
            const double spread = shorter.high / shorter.usual;
            // In twice the time there are never more than twice as many.
            const double times = static_cast<double>(point.interval.count()) /
                                 static_cast<double>(shorter.interval.count());
            point.high = std::max(point.high, std::min(point.usual * spread, shorter.high * times));
        }
        points.push_back(point);
    };
    for (const Level& level : levels_) {
        append(point_of(level.samples));
    }
    // A rest that no level has room for tells of the longest interval.
    if (!points.empty() && length_ > points.back().interval * 5 / 4) {
        const auto pages = static_cast<double>(written().value());
        append({.interval = length_, .usual = pages, .high = pages, .samples = 1});
    }
    return {std::move(points), most};
}

} // namespace wherry::dirtylog
