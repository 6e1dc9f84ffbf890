// SPDX-License-Identifier: Apache-2.0
#include "vmm/missing_pages.hpp"

#include <algorithm>
#include <optional>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::PageBitmap;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

/// What two runs have in common.
std::optional<PageRange> common(PageRange a, PageRange b) {
    const Gfn first = std::max(a.first(), b.first());
    const Gfn end = std::min(a.end(), b.end());
    if (first >= end) {
        return std::nullopt;
    }
    return a.part(first - a.first(), end - a.first());
}

/// What of `pages` is at or behind `from`, which is not in front of them.
std::optional<PageRange> part_behind(PageRange pages, Gfn from) {
    return from < pages.end() ? std::optional{pages.part(from - pages.first(), pages.count())}
                              : std::nullopt;
}

/// Calls function(run) for each run of `bitmap` inside `pages`, which is inside the bitmap.
template <typename Function>
void for_each_run(const PageBitmap& bitmap, PageRange pages, Function&& function) {
    std::optional<PageRange> rest = pages;
    while (const auto run = rest ? bitmap.first_run_in(*rest) : std::nullopt) {
        rest = part_behind(pages, run->end());
        function(*run);
    }
}

/// The same for runs of pages that are in `bitmap` and not in `without`. `function` may put them
/// there.
template <typename Function>
void for_each_run_without(
    const PageBitmap& bitmap, const PageBitmap& without, PageRange pages, Function&& function) {
    for_each_run(bitmap, pages, [&](PageRange run) {
        std::optional<PageRange> rest = run;
        while (rest) {
            const auto left_out = without.first_run_in(*rest);
            const PageCount kept = (left_out ? left_out->first() : rest->end()) - rest->first();
            const PageRange looked_at = *rest;
            rest = left_out ? part_behind(run, left_out->end()) : std::nullopt;
            if (kept > PageCount{0}) {
                function(looked_at.part(PageCount{0}, kept));
            }
        }
    });
}

} // namespace

MissingPages::MissingPages(std::span<const MemoryRegion> regions) {
    for (const MemoryRegion& region : regions) {
        const PageBitmap none{region.pages};
        regions_.push_back({.missing = none, .claimed = none, .asked = none});
    }
}

template <typename Function>
void MissingPages::for_each_part(PageRange pages, Function&& function) {
    for (Region& region : regions_) {
        if (const auto part = common(pages, region.missing.pages())) {
            function(region, *part);
        }
    }
}

Status MissingPages::check_ram(std::span<const PageBitmap> bitmaps) const {
    const bool is_this_ram =
        std::ranges::equal(bitmaps, regions_, [](const PageBitmap& bitmap, const Region& region) {
            return bitmap.pages() == region.missing.pages();
        });
    return is_this_ram ? Status{}
                       : fail(
                             ErrorCode::invalid_argument,
                             "pages are said to be missing of RAM that is not this one");
}

Status MissingPages::begin(std::span<const PageBitmap> missing) {
    const std::scoped_lock held{lock_};
    if (auto good = check_ram(missing); !good) {
        return good;
    }
    std::uint64_t count = 0;
    for (std::size_t number = 0; number < regions_.size(); ++number) {
        regions_[number].missing = missing[number];
        count += missing[number].count().value();
    }
    count_ = count;
    return {};
}

Result<std::vector<PageRange>> MissingPages::narrow(std::span<const PageBitmap> missing) {
    const std::scoped_lock held{lock_};
    if (auto good = check_ram(missing); !good) {
        return fail(std::move(good).error());
    }
    std::vector<PageRange> left;
    std::uint64_t count = 0;
    for (std::size_t number = 0; number < regions_.size(); ++number) {
        Region& region = regions_[number];
        PageBitmap kept = missing[number];
        kept.merge(region.claimed);
        region.missing.intersect(kept);
        count += region.missing.count().value();
        PageBitmap gone = region.asked;
        gone.subtract(region.missing);
        region.asked.subtract(gone);
        for_each_run(gone, gone.pages(), [&](PageRange run) { left.push_back(run); });
    }
    count_ = count;
    return left;
}

void MissingPages::take_from(PageBitmap& pages) const {
    const std::scoped_lock held{lock_};
    for (const Region& region : regions_) {
        if (region.missing.pages() == pages.pages()) {
            pages.subtract(region.missing);
        }
    }
}

void MissingPages::clear() {
    const std::scoped_lock held{lock_};
    for (Region& region : regions_) {
        region.missing.clear_all();
        region.claimed.clear_all();
        region.asked.clear_all();
    }
    count_ = 0;
}

PageCount MissingPages::count() const noexcept {
    return PageCount{count_.load()};
}

bool MissingPages::contains(Gfn page) const {
    const std::scoped_lock held{lock_};
    return std::ranges::any_of(regions_, [page](const Region& region) {
        return region.missing.pages().contains(page) && region.missing.test(page);
    });
}

bool MissingPages::intersects(PageRange pages) const {
    const std::scoped_lock held{lock_};
    return std::ranges::any_of(regions_, [pages](const Region& region) {
        const auto part = common(pages, region.missing.pages());
        return part && region.missing.first_run_in(*part).has_value();
    });
}

namespace {

template <typename Regions, typename Member>
std::vector<PageRange> runs_of(const Regions& regions, Member member) {
    std::vector<PageRange> runs;
    for (const auto& region : regions) {
        const PageBitmap& bitmap = region.*member;
        for_each_run(bitmap, bitmap.pages(), [&](PageRange run) { runs.push_back(run); });
    }
    return runs;
}

} // namespace

std::vector<PageRange> MissingPages::runs() const {
    const std::scoped_lock held{lock_};
    return runs_of(regions_, &Region::missing);
}

std::vector<PageRange> MissingPages::asked() const {
    const std::scoped_lock held{lock_};
    return runs_of(regions_, &Region::asked);
}

std::vector<PageRange> MissingPages::claim(PageRange pages) {
    const std::scoped_lock held{lock_};
    std::vector<PageRange> runs;
    for_each_part(pages, [&](Region& region, PageRange part) {
        for_each_run_without(region.missing, region.claimed, part, [&](PageRange run) {
            region.claimed.set(run);
            runs.push_back(run);
        });
    });
    return runs;
}

void MissingPages::arrived(PageRange claimed) {
    const std::scoped_lock held{lock_};
    for_each_part(claimed, [](Region& region, PageRange part) {
        region.missing.clear(part);
        region.claimed.clear(part);
        region.asked.clear(part);
    });
    count_ -= claimed.count().value();
}

void MissingPages::give_up(PageRange claimed) {
    const std::scoped_lock held{lock_};
    for_each_part(claimed, [](Region& region, PageRange part) { region.claimed.clear(part); });
}

std::vector<PageRange> MissingPages::ask(PageRange pages) {
    const std::scoped_lock held{lock_};
    std::vector<PageRange> runs;
    for_each_part(pages, [&](Region& region, PageRange part) {
        for_each_run_without(region.missing, region.asked, part, [&](PageRange run) {
            region.asked.set(run);
            runs.push_back(run);
        });
    });
    return runs;
}

} // namespace wherry::vmm
