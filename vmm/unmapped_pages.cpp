// SPDX-License-Identifier: Apache-2.0
#include "vmm/unmapped_pages.hpp"

#include "formats/error.hpp"

#include <algorithm>

namespace wherry::vmm {

using formats::Gfn;
using formats::PageBitmap;
using formats::PageCount;
using formats::PageRange;

UnmappedPages::UnmappedPages(std::span<const MemoryRegion> regions, PageCount window)
    : window_{window} {
    for (const MemoryRegion& region : regions) {
        bitmaps_.emplace_back(region.pages);
    }
}

PageBitmap& UnmappedPages::bitmap_of(Gfn page) {
    const auto found = std::ranges::find_if(
        bitmaps_, [page](const PageBitmap& bitmap) { return bitmap.pages().contains(page); });
    formats::invariant(found != bitmaps_.end(), "what is mapped is RAM");
    return *found;
}

void UnmappedPages::add(const PageBitmap& pages) {
    const std::scoped_lock lock{mutex_};
    bitmap_of(pages.pages().first()).merge(pages);
}

void UnmappedPages::clear() {
    const std::scoped_lock lock{mutex_};
    for (PageBitmap& bitmap : bitmaps_) {
        bitmap.clear_all();
    }
}

PageRange UnmappedPages::take_around(Gfn page) {
    const std::scoped_lock lock{mutex_};
    PageBitmap& bitmap = bitmap_of(page);
    const PageRange all = bitmap.pages();
    const PageCount at = page - all.first();
    const PageCount from = at - at % window_;
    const PageRange near = all.part(from, std::min(from + window_, all.count()));
    next_ = near.first();
    if (!bitmap.test(page)) {
        return all.part(at, at + PageCount{1});
    }
    Gfn first = page;
    while (first > near.first() && bitmap.test(first - PageCount{1})) {
        first = first - PageCount{1};
    }
    const auto run = bitmap.first_run_in(near.part(first - near.first(), near.count()));
    formats::invariant(run.has_value(), "the page is in the run around it");
    bitmap.clear(*run);
    return *run;
}

std::optional<PageRange> UnmappedPages::next_run(Gfn from, PageCount at_most) const {
    for (const PageBitmap& bitmap : bitmaps_) {
        const PageRange all = bitmap.pages();
        if (from < all.end()) {
            if (auto run = bitmap.next_run(std::max(from, all.first()), at_most)) {
                return run;
            }
        }
    }
    return std::nullopt;
}

std::optional<PageRange> UnmappedPages::take_some(PageCount at_most) {
    const std::scoped_lock lock{mutex_};
    auto run = next_run(next_, at_most);
    if (!run) {
        run = next_run(Gfn{0}, at_most);
    }
    if (run) {
        bitmap_of(run->first()).clear(*run);
        next_ = run->end();
    }
    return run;
}

} // namespace wherry::vmm
