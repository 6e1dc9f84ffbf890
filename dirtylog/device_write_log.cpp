// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/device_write_log.hpp"

#include "formats/error.hpp"

#include <algorithm>

namespace wherry::dirtylog {

namespace {

constexpr std::uint64_t bits = 64;

} // namespace

DeviceWriteLog::DeviceWriteLog(std::span<const vmm::MemoryRegion> regions) {
    regions_.reserve(regions.size());
    for (const vmm::MemoryRegion& region : regions) {
        const std::size_t words = (region.pages.count().value() + bits - 1) / bits;
        regions_.push_back(
            Region{.pages = region.pages, .words = std::vector<std::atomic<std::uint64_t>>(words)});
    }
}

// Release, and acquire in drain: who sees the bit sees the bytes that were written before it.
void DeviceWriteLog::wrote(formats::PageRange pages) noexcept {
    for (Region& region : regions_) {
        const formats::Gfn first = std::max(region.pages.first(), pages.first());
        const formats::Gfn end = std::min(region.pages.end(), pages.end());
        for (formats::Gfn page = first; page < end; page += formats::PageCount{1}) {
            const std::uint64_t at = (page - region.pages.first()).value();
            region.words[at / bits].fetch_or(
                std::uint64_t{1} << (at % bits), std::memory_order_release);
        }
    }
}

void DeviceWriteLog::drain(DirtySet& into) {
    const auto bitmaps = into.bitmaps();
    formats::invariant(bitmaps.size() == regions_.size(), "a log drains into a set of its RAM");
    std::vector<std::uint64_t> words;
    for (std::size_t i = 0; i < regions_.size(); ++i) {
        words.assign(regions_[i].words.size(), 0);
        for (std::size_t w = 0; w < words.size(); ++w) {
            // Nearly all words are clear, and looking is cheaper than exchanging.
            if (regions_[i].words[w].load(std::memory_order_relaxed) != 0) {
                words[w] = regions_[i].words[w].exchange(0, std::memory_order_acquire);
            }
        }
        bitmaps[i].merge_words(words);
    }
}

} // namespace wherry::dirtylog
