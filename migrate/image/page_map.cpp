// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/page_map.hpp"

#include <numeric>

namespace wherry::migrate {

using formats::Gfn;
using formats::PageCount;
using formats::PageMapEntry;
using formats::PageRange;

namespace {

PageRange one_page(Gfn page) {
    const auto range = PageRange::make(page, PageCount{1});
    formats::invariant(range.has_value(), "a page of RAM is no last page of an address space");
    return *range;
}

} // namespace

PageMap::PageMap(std::vector<PageMapEntry> entries) : entries_{std::move(entries)} {
    for (const PageMapEntry& entry : entries_) {
        if (entry.chunk >= counts_.size()) {
            counts_.resize(entry.chunk + std::size_t{1});
        }
        counts_[entry.chunk] += entry.pages.count();
    }
}

std::span<const PageMapEntry>::iterator entry_at(std::span<const PageMapEntry> entries, Gfn page) {
    return std::ranges::partition_point(
        entries, [page](const PageMapEntry& entry) { return entry.pages.end() <= page; });
}

std::optional<std::uint32_t> PageMap::chunk_of(Gfn page) const {
    const auto all = entries();
    const auto entry = entry_at(all, page);
    return entry != all.end() && entry->pages.contains(page) ? std::optional{entry->chunk}
                                                             : std::nullopt;
}

PageCount PageMap::count() const noexcept {
    return std::accumulate(counts_.begin(), counts_.end(), PageCount{0});
}

PageCount PageMap::count_in(std::uint32_t chunk) const noexcept {
    return chunk < counts_.size() ? counts_[chunk] : PageCount{0};
}

PageMapBuilder::PageMapBuilder(std::span<const PageRange> ram) {
    for (const PageRange pages : ram) {
        regions_.push_back(
            {.pages = pages, .chunks = std::vector<std::uint32_t>(pages.count().value())});
    }
}

std::span<const std::uint32_t> PageMapBuilder::places_of(PageRange pages) const {
    const auto region = std::ranges::find_if(
        regions_, [pages](const Region& each) { return each.pages.contains(pages); });
    formats::invariant(region != regions_.end(), "what is in a chunk is RAM");
    const PageCount from = pages.first() - region->pages.first();
    return std::span{region->chunks}.subspan(from.value(), pages.count().value());
}

void PageMapBuilder::add(PageRange pages, std::uint32_t chunk) {
    for (Region& region : regions_) {
        if (region.pages.contains(pages)) {
            const PageCount from = pages.first() - region.pages.first();
            for (auto& place :
                 std::span{region.chunks}.subspan(from.value(), pages.count().value())) {
                place = std::max(place, chunk + 1);
            }
            return;
        }
    }
    formats::invariant(false, "what is in a chunk is RAM");
}

bool PageMapBuilder::has_any(PageRange pages) const {
    return std::ranges::any_of(places_of(pages), [](std::uint32_t place) { return place != 0; });
}

std::optional<std::uint32_t> PageMapBuilder::chunk_of(Gfn page) const {
    const std::uint32_t place = places_of(one_page(page)).front();
    return place == 0 ? std::nullopt : std::optional{place - 1};
}

PageMap PageMapBuilder::build() const {
    std::vector<PageMapEntry> entries;
    for (const Region& region : regions_) {
        const auto& chunks = region.chunks;
        for (auto at = chunks.begin(); at != chunks.end();) {
            const auto end =
                std::find_if(at, chunks.end(), [at](std::uint32_t place) { return place != *at; });
            if (*at != 0) {
                const auto index = [&chunks](auto place) {
                    return PageCount{static_cast<std::uint64_t>(place - chunks.begin())};
                };
                entries.push_back(
                    {.pages = region.pages.part(index(at), index(end)), .chunk = *at - 1});
            }
            at = end;
        }
    }
    return PageMap{std::move(entries)};
}

} // namespace wherry::migrate
