// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/page_map_parts.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::PageCount;
using formats::PageMapEntry;
using formats::PageRange;
using formats::Status;

PageMapParts::PageMapParts(std::vector<Gfn> firsts, ReadPart read)
    : read_{std::move(read)},
      unloaded_{firsts.size()} {
    formats::invariant(
        !firsts.empty() && std::ranges::is_sorted(firsts), "the parts of a page map ascend");
    for (const Gfn first : firsts) {
        parts_.push_back(std::make_unique<Part>());
        parts_.back()->first = first;
    }
}

PageMapParts::PageMapParts(const PageMap& whole) : unloaded_{0} {
    parts_.push_back(std::make_unique<Part>());
    auto& part = *parts_.back();
    part.entries = whole.entries();
    part.first = part.entries.empty() ? Gfn{0} : part.entries.front().pages.first();
    part.is_loaded = true;
    for (const PageMapEntry& entry : part.entries) {
        counts_.resize(std::max(counts_.size(), entry.chunk + std::size_t{1}));
    }
    for (std::uint32_t chunk = 0; chunk < counts_.size(); ++chunk) {
        counts_[chunk] = whole.count_in(chunk);
    }
}

Status PageMapParts::load_part(std::size_t number) {
    Part& part = *parts_[number];
    if (part.is_loaded.load(std::memory_order_acquire)) {
        return {};
    }
    const std::scoped_lock held{mutex_};
    if (part.is_loaded) {
        return {};
    }
    auto entries = read_(number);
    if (!entries) {
        return fail(std::move(entries).error());
    }
    const bool is_last = number + 1 == parts_.size();
    const bool is_in_place = !entries->empty() && entries->front().pages.first() == part.first &&
                             (is_last || entries->back().pages.end() <= parts_[number + 1]->first);
    if (!is_in_place) {
        return fail(
            ErrorCode::corrupted,
            fmt::format("part {} of its page map is not where it seemed to be", number));
    }
    for (const PageMapEntry& entry : *entries) {
        if (entry.chunk >= counts_.size()) {
            counts_.resize(entry.chunk + std::size_t{1});
        }
        counts_[entry.chunk] += entry.pages.count();
    }
    part.own = *std::move(entries);
    part.entries = part.own;
    part.is_loaded.store(true, std::memory_order_release);
    --unloaded_;
    return {};
}

std::size_t PageMapParts::part_of(Gfn page) const {
    const auto behind = std::ranges::upper_bound(
        parts_, page, {}, [](const std::unique_ptr<Part>& part) { return part->first; });
    return behind == parts_.begin() ? 0 : static_cast<std::size_t>(behind - parts_.begin()) - 1;
}

/// Where a part begins is not known for certain before it is loaded: so is the one behind, where
/// that is what says that nothing of `pages` is in it.
Status PageMapParts::load(PageRange pages) {
    std::size_t number = part_of(pages.first());
    while (true) {
        if (auto loaded = load_part(number); !loaded) {
            return loaded;
        }
        const auto entries = parts_[number]->entries;
        const bool is_decided = number + 1 == parts_.size() ||
                                parts_[number]->first >= pages.end() ||
                                (!entries.empty() && entries.back().pages.end() >= pages.end());
        if (is_decided) {
            return {};
        }
        ++number;
    }
}

Status PageMapParts::note_count(std::uint32_t chunk, PageCount pages) {
    const std::scoped_lock held{mutex_};
    const Noted noted{.chunk = chunk, .pages = pages};
    if (!is_whole()) {
        noted_.push_back(noted);
        return {};
    }
    return check_count(noted);
}

Status PageMapParts::check_counts() {
    const std::scoped_lock held{mutex_};
    formats::invariant(is_whole(), "a page map is whole before chunks are held against it");
    for (const Noted& noted : noted_) {
        if (auto good = check_count(noted); !good) {
            return good;
        }
    }
    noted_.clear();
    return {};
}

Status PageMapParts::check_count(const Noted& noted) const {
    const auto said = noted.chunk < counts_.size() ? counts_[noted.chunk] : PageCount{0};
    return said == noted.pages
               ? Status{}
               : fail(
                     ErrorCode::corrupted,
                     fmt::format(
                         "section {} lacks pages that the page map says it has", noted.chunk));
}

} // namespace wherry::migrate
