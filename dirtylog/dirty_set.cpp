// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_set.hpp"

#include "formats/error.hpp"

#include <algorithm>
#include <utility>

namespace wherry::dirtylog {

namespace {

using formats::Gfn;
using formats::invariant;
using formats::PageCount;
using formats::PageRange;

std::optional<PageRange> overlap(PageRange a, PageRange b) {
    const Gfn first = std::max(a.first(), b.first());
    const Gfn end = std::min(a.end(), b.end());
    if (end <= first) {
        return std::nullopt;
    }
    return a.part(first - a.first(), end - a.first());
}

} // namespace

DirtySet::DirtySet(std::span<const PageRange> ram) {
    bitmaps_.reserve(ram.size());
    for (const PageRange pages : ram) {
        invariant(
            bitmaps_.empty() || bitmaps_.back().pages().end() <= pages.first(),
            "regions of RAM are ascending and do not overlap");
        bitmaps_.emplace_back(pages);
    }
}

DirtySet::DirtySet(const vmm::GuestMemory& memory) {
    bitmaps_.reserve(memory.regions().size());
    for (const vmm::MemoryRegion& region : memory.regions()) {
        bitmaps_.emplace_back(region.pages);
    }
}

formats::Result<DirtySet> DirtySet::populated(const vmm::GuestMemory& memory) {
    const auto runs = memory.populated();
    if (!runs) {
        return formats::fail(runs.error());
    }
    DirtySet pages{memory};
    for (const formats::PageRange run : *runs) {
        pages.mark(run);
    }
    return pages;
}

void DirtySet::mark(PageRange range) {
    for (PageBitmap& bitmap : bitmaps_) {
        if (const auto part = overlap(bitmap.pages(), range)) {
            bitmap.set(*part);
        }
    }
}

void DirtySet::unmark(PageRange range) {
    for (PageBitmap& bitmap : bitmaps_) {
        if (const auto part = overlap(bitmap.pages(), range)) {
            bitmap.clear(*part);
        }
    }
}

void DirtySet::mark_all() {
    std::ranges::for_each(bitmaps_, &PageBitmap::set_all);
}

void DirtySet::clear() noexcept {
    std::ranges::for_each(bitmaps_, &PageBitmap::clear_all);
}

void DirtySet::merge(const DirtySet& other) {
    invariant(bitmaps_.size() == other.bitmaps_.size(), "sets that meet are of the same RAM");
    for (std::size_t i = 0; i < bitmaps_.size(); ++i) {
        bitmaps_[i].merge(other.bitmaps_[i]);
    }
}

void DirtySet::subtract(const DirtySet& other) {
    invariant(bitmaps_.size() == other.bitmaps_.size(), "sets that meet are of the same RAM");
    for (std::size_t i = 0; i < bitmaps_.size(); ++i) {
        bitmaps_[i].subtract(other.bitmaps_[i]);
    }
}

bool DirtySet::contains(Gfn page) const {
    return std::ranges::any_of(bitmaps_, [page](const PageBitmap& bitmap) {
        return bitmap.pages().contains(page) && bitmap.test(page);
    });
}

PageCount DirtySet::count() const noexcept {
    PageCount pages;
    for (const PageBitmap& bitmap : bitmaps_) {
        pages += bitmap.count();
    }
    return pages;
}

bool DirtySet::is_empty() const noexcept {
    return std::ranges::all_of(bitmaps_, &PageBitmap::is_empty);
}

std::optional<PageRange> DirtySet::next_run(Gfn from, PageCount longest) const {
    for (const PageBitmap& bitmap : bitmaps_) {
        if (from >= bitmap.pages().end()) {
            continue;
        }
        if (auto run = bitmap.next_run(std::max(from, bitmap.pages().first()), longest)) {
            return run;
        }
    }
    return std::nullopt;
}

std::optional<PageRange> DirtySet::first_run_in(PageRange within) const {
    for (const PageBitmap& bitmap : bitmaps_) {
        const auto part = overlap(bitmap.pages(), within);
        const auto run = part ? bitmap.first_run_in(*part) : std::nullopt;
        if (run) {
            return run;
        }
    }
    return std::nullopt;
}

std::vector<PageRange> DirtySet::take_runs(Gfn from, PageCount budget) {
    std::vector<PageRange> runs;
    while (budget > PageCount{0}) {
        const auto run = next_run(from, budget);
        if (!run) {
            break;
        }
        unmark(*run);
        budget -= run->count();
        from = run->end();
        runs.push_back(*run);
    }
    return runs;
}

} // namespace wherry::dirtylog
