// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_map.hpp"
#include "formats/result.hpp"
#include "migrate/image/page_map.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace wherry::migrate {

/// The page map of an image in the parts that the image has it in, each read, and found right, when
/// somebody asks for a page of it. What decides about a page is always read, so that a page in no
/// part is known to be in no chunk. For any thread.
class PageMapParts {
public:
    /// All entries of part `number`, found right as far as that can be done without the others.
    using ReadPart =
        std::function<formats::Result<std::vector<formats::PageMapEntry>>(std::size_t number)>;

    /// Where the parts seem to begin, at least one, ascending; `read` may be called on any thread,
    /// once at a time.
    PageMapParts(std::vector<formats::Gfn> firsts, ReadPart read);
    /// A map that is all here, and outlives this.
    explicit PageMapParts(const PageMap& whole);

    [[nodiscard]] std::size_t count() const noexcept { return parts_.size(); }
    formats::Status load_part(std::size_t number);
    /// What decides about `pages`.
    formats::Status load(formats::PageRange pages);
    /// All parts have been loaded.
    [[nodiscard]] bool is_whole() const noexcept { return unloaded_ == 0; }

    /// Calls fn(entry) for each entry with a page of `pages`, ascending. They have been loaded.
    template <typename Function>
    void for_each_entry(formats::PageRange pages, Function&& fn) const;
    /// As PageMap has it. They have been loaded.
    template <typename Function>
    void for_each_in(ChunkRange chunks, formats::PageRange pages, Function&& fn) const;
    /// Calls fn(entry) for all. is_whole().
    template <typename Function>
    void for_each(Function&& fn) const;

    /// A chunk has so many of the pages that the map says are in it; Error{corrupted} where it
    /// lacks some: now, or from check_counts() where the map is not whole yet.
    formats::Status note_count(std::uint32_t chunk, formats::PageCount pages);
    /// Of all chunks that were noted. is_whole().
    formats::Status check_counts();

private:
    struct Part {
        formats::Gfn first; ///< as it seems to be, until it is loaded
        std::vector<formats::PageMapEntry> own;
        std::span<const formats::PageMapEntry> entries;
        std::atomic<bool> is_loaded = false; ///< then the rest does not change
    };
    struct Noted {
        std::uint32_t chunk;
        formats::PageCount pages;
    };
    /// The last part that begins at `page` or in front of it; the first one where none does.
    [[nodiscard]] std::size_t part_of(formats::Gfn page) const;
    [[nodiscard]] formats::Status check_count(const Noted& noted) const;

    std::vector<std::unique_ptr<Part>> parts_;
    ReadPart read_;
    std::atomic<std::size_t> unloaded_;
    std::mutex mutex_;
    std::vector<formats::PageCount> counts_; ///< by chunk, of the parts that are loaded
    std::vector<Noted> noted_;               ///< before the map was whole
};

template <typename Function>
void PageMapParts::for_each_entry(formats::PageRange pages, Function&& fn) const {
    for (std::size_t number = part_of(pages.first());
         number < parts_.size() && parts_[number]->first < pages.end();
         ++number) {
        migrate::for_each_entry(parts_[number]->entries, pages, fn);
    }
}

template <typename Function>
void PageMapParts::for_each_in(ChunkRange chunks, formats::PageRange pages, Function&& fn) const {
    for_each_entry(
        pages, [&](const formats::PageMapEntry& entry) { for_part_in(chunks, pages, entry, fn); });
}

template <typename Function>
void PageMapParts::for_each(Function&& fn) const {
    for (const auto& part : parts_) {
        std::ranges::for_each(part->entries, fn);
    }
}

} // namespace wherry::migrate
