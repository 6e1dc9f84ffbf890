// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_map.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace wherry::migrate {

/// Numbers of sections, `end` not included.
struct ChunkRange {
    std::uint32_t first = 0;
    std::uint32_t end = 0;
};
constexpr ChunkRange only_chunk(std::uint32_t number) noexcept {
    return {.first = number, .end = number + 1};
}

// Of entries that ascend and do not overlap, as a page map has them:

/// The first one that does not end before `page`.
std::span<const formats::PageMapEntry>::iterator
entry_at(std::span<const formats::PageMapEntry> entries, formats::Gfn page);

/// Calls fn(entry) for each one with a page of `pages`.
template <typename Function>
void for_each_entry(
    std::span<const formats::PageMapEntry> entries, formats::PageRange pages, Function&& fn) {
    for (auto entry = entry_at(entries, pages.first());
         entry != entries.end() && entry->pages.first() < pages.end();
         ++entry) {
        fn(*entry);
    }
}

/// Calls fn(PageRange) with what of such an entry is in `pages`, if it is in one of the chunks.
template <typename Function>
void for_part_in(
    ChunkRange chunks,
    formats::PageRange pages,
    const formats::PageMapEntry& entry,
    Function&& fn) {
    if (entry.chunk >= chunks.first && entry.chunk < chunks.end) {
        const auto first = std::max(entry.pages.first(), pages.first());
        const auto end = std::min(entry.pages.end(), pages.end());
        fn(pages.part(first - pages.first(), end - pages.first()));
    }
}

/// Which chunk of an image holds each page's contents: the last one that has it. Immutable, and
/// so for any thread.
class PageMap {
public:
    /// `entries` ascend, do not overlap, and lie inside one region each.
    explicit PageMap(std::vector<formats::PageMapEntry> entries);

    [[nodiscard]] std::span<const formats::PageMapEntry> entries() const noexcept {
        return entries_;
    }
    /// Of a page in no chunk: nothing. It is zero, or its base image's.
    [[nodiscard]] std::optional<std::uint32_t> chunk_of(formats::Gfn page) const;
    /// The pages of all entries, and of those of one chunk.
    [[nodiscard]] formats::PageCount count() const noexcept;
    [[nodiscard]] formats::PageCount count_in(std::uint32_t chunk) const noexcept;

    /// Calls fn(PageRange) for each run of `pages` whose contents are in one of these chunks,
    /// ascending.
    template <typename Function>
    void for_each_in(ChunkRange chunks, formats::PageRange pages, Function&& fn) const;

    friend bool operator==(const PageMap&, const PageMap&) = default;

private:
    std::vector<formats::PageMapEntry> entries_;
    std::vector<formats::PageCount> counts_; ///< by chunk
};

template <typename Function>
void PageMap::for_each_in(ChunkRange chunks, formats::PageRange pages, Function&& fn) const {
    for_each_entry(entries_, pages, [&](const formats::PageMapEntry& entry) {
        for_part_in(chunks, pages, entry, fn);
    });
}

/// Learns chunk by chunk what is where. Not thread-safe. Pages given to it lie inside one region.
class PageMapBuilder {
public:
    /// Regions are ascending and do not overlap.
    explicit PageMapBuilder(std::span<const formats::PageRange> ram);

    /// `chunk` has these pages. Of several chunks the one with the highest number counts.
    void add(formats::PageRange pages, std::uint32_t chunk);
    [[nodiscard]] bool has_any(formats::PageRange pages) const;
    [[nodiscard]] std::optional<std::uint32_t> chunk_of(formats::Gfn page) const;
    /// Of the fewest entries.
    [[nodiscard]] PageMap build() const;

private:
    struct Region {
        formats::PageRange pages;
        std::vector<std::uint32_t> chunks; ///< number + 1 of each page's; 0: in none
    };
    [[nodiscard]] std::span<const std::uint32_t> places_of(formats::PageRange pages) const;

    std::vector<Region> regions_;
};

} // namespace wherry::migrate
