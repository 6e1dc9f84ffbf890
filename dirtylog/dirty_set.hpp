// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"

#include <optional>
#include <span>
#include <vector>

namespace wherry::dirtylog {

using formats::PageBitmap;

/// A set of pages of a machine's RAM, such as those to be sent again. Not thread-safe. Sets that
/// meet are of the same RAM.
class DirtySet {
public:
    /// Empty, over these regions, which are ascending and do not overlap.
    explicit DirtySet(std::span<const formats::PageRange> ram);
    explicit DirtySet(const vmm::GuestMemory& memory);

    /// What anyone has ever touched: a page that is not in it reads as zero.
    static formats::Result<DirtySet> populated(const vmm::GuestMemory& memory);

    /// Pages of the range that are not RAM are left out.
    void mark(formats::PageRange range);
    void unmark(formats::PageRange range);
    void mark_all();
    void clear() noexcept;
    void merge(const DirtySet& other);
    /// Takes out what is in `other`.
    void subtract(const DirtySet& other);

    [[nodiscard]] bool contains(formats::Gfn page) const;
    [[nodiscard]] formats::PageCount count() const noexcept;
    [[nodiscard]] bool is_empty() const noexcept;

    /// The first run at or after `from`, inside one region, cut at `longest` pages.
    [[nodiscard]] std::optional<formats::PageRange>
    next_run(formats::Gfn from, formats::PageCount longest) const;

    /// The first run inside `within`, of which pages that are no RAM are left out. Looks no
    /// further.
    [[nodiscard]] std::optional<formats::PageRange> first_run_in(formats::PageRange within) const;

    /// Calls fn(PageRange) for each run in ascending order, none longer than `longest`.
    template <typename Function>
    void for_each_run(formats::PageCount longest, Function&& fn) const;

    /// Takes the next runs at or after `from` out of the set, ascending, `budget` pages in all at
    /// most. Empty: nothing left from there on (begin again at Gfn{0} where more may have come).
    /// Continue at `.back().end()`.
    [[nodiscard]] std::vector<formats::PageRange>
    take_runs(formats::Gfn from, formats::PageCount budget);

    /// One bitmap for each region, ascending.
    [[nodiscard]] std::span<const PageBitmap> bitmaps() const noexcept { return bitmaps_; }
    [[nodiscard]] std::span<PageBitmap> bitmaps() noexcept { return bitmaps_; }

    friend bool operator==(const DirtySet&, const DirtySet&) = default;

private:
    std::vector<PageBitmap> bitmaps_;
};

template <typename Function>
void DirtySet::for_each_run(formats::PageCount longest, Function&& fn) const {
    for (const PageBitmap& bitmap : bitmaps_) {
        auto run = bitmap.next_run(bitmap.pages().first(), longest);
        while (run) {
            fn(*run);
            run = bitmap.next_run(run->end(), longest);
        }
    }
}

} // namespace wherry::dirtylog
