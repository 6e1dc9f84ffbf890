// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

namespace wherry::formats {

/// A non-empty run of guest frames that does not wrap. Code that holds one never re-checks.
class PageRange {
public:
    /// Refuses an empty run and one that reaches beyond the last frame of a 64-bit address space.
    static Result<PageRange> make(Gfn first, PageCount count) {
        constexpr std::uint64_t frames_in_address_space = std::uint64_t{1} << 52U;
        const bool is_inside = first.value() < frames_in_address_space &&
                               count.value() <= frames_in_address_space - first.value();
        if (count == PageCount{0} || !is_inside) {
            return fail(refusal(first, count));
        }
        return PageRange{first, count};
    }

    [[nodiscard]] constexpr Gfn first() const noexcept { return first_; }
    [[nodiscard]] constexpr PageCount count() const noexcept { return count_; }
    /// One past the last frame.
    [[nodiscard]] constexpr Gfn end() const noexcept { return first_ + count_; }
    [[nodiscard]] constexpr bool contains(Gfn frame) const noexcept {
        return frame >= first_ && frame < end();
    }
    [[nodiscard]] constexpr bool contains(PageRange other) const noexcept {
        return other.first_ >= first_ && other.end() <= end();
    }
    /// Its frames [from, end), counted from the first; from < end <= count().
    [[nodiscard]] constexpr PageRange part(PageCount from, PageCount end) const {
        if (from >= end || end > count_) {
            invariant(false, "a part of a run of pages lies inside it and is not empty");
        }
        return PageRange{first_ + from, end - from};
    }
    friend constexpr bool operator==(PageRange, PageRange) noexcept = default;

private:
    constexpr PageRange(Gfn first, PageCount count) : first_{first}, count_{count} {}
    static Error refusal(Gfn first, PageCount count);
    Gfn first_;
    PageCount count_;
};

} // namespace wherry::formats
