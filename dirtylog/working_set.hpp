// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_curve.hpp"
#include "dirtylog/dirty_set.hpp"
#include "formats/units.hpp"

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::dirtylog {

/// Makes a DirtyCurve of harvests that follow one another without a gap. Each is a sample of its
/// own length, each two together one of twice that, each four of four times, and all together one
/// of the whole time: one pass over the log serves every length. Pure; holds one bit for each page
/// and length.
class WorkingSet {
public:
    /// Of this RAM.
    explicit WorkingSet(std::span<const formats::PageRange> ram);
    explicit WorkingSet(const vmm::GuestMemory& memory);

    /// What was written in the `length` since the harvest before. Lengths should be alike; one of
    /// nothing is ignored.
    void add(const DirtySet& harvest, std::chrono::nanoseconds length);

    /// Everything written since the start.
    [[nodiscard]] formats::PageCount written() const;
    [[nodiscard]] DirtyCurve curve() const;

private:
    struct Sample {
        std::chrono::nanoseconds length;
        double pages;
    };
    /// Samples of 2^i harvests, and the ones under way.
    struct Level {
        DirtySet pages;
        std::chrono::nanoseconds length{0};
        std::uint32_t halves = 0; ///< of the present sample: 0 or 1
        std::vector<Sample> samples;
    };
    static DirtyCurve::Point point_of(std::vector<Sample> samples);

    DirtySet empty_;
    DirtySet all_;
    std::chrono::nanoseconds length_{0};
    std::vector<Level> levels_;
};

} // namespace wherry::dirtylog
