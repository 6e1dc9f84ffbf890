// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/page_range.hpp"
#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"

#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace wherry::vmm {

/// Pages of guest memory that are there, and that its mapping has yet to be given: whoever takes
/// them does that. Any thread.
class UnmappedPages {
public:
    /// None yet. As many pages as are looked at around one that is wanted: `window`, counted from
    /// the start of its region.
    UnmappedPages(std::span<const MemoryRegion> regions, formats::PageCount window);

    /// Of one region.
    void add(const formats::PageBitmap& pages);
    void clear();
    /// `page`, of which it need not be known, with its neighbours in its window. The next ones to
    /// take are from there on: it is where the guest works.
    formats::PageRange take_around(formats::Gfn page);
    /// At most so many in a row; nothing where none is left.
    std::optional<formats::PageRange> take_some(formats::PageCount at_most);

private:
    std::optional<formats::PageRange> next_run(formats::Gfn from, formats::PageCount at_most) const;
    formats::PageBitmap& bitmap_of(formats::Gfn page);

    const formats::PageCount window_;
    std::mutex mutex_;
    std::vector<formats::PageBitmap> bitmaps_; ///< of each region, ascending
    formats::Gfn next_{0};                     ///< where to go on
};

} // namespace wherry::vmm
