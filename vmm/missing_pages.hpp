// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_bitmap.hpp"
#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/guest_memory.hpp"

#include <atomic>
#include <mutex>
#include <span>
#include <vector>

namespace wherry::vmm {

/// The books of a FaultSource: which pages are missing, which of them somebody is about to place,
/// which were asked for. Thread-safe; nothing here waits. Pages that are no RAM are never missing.
class MissingPages {
public:
    /// Nothing is missing.
    explicit MissingPages(std::span<const MemoryRegion> regions);

    /// From here on these are missing, and no others. invalid_argument, with nothing changed, where
    /// the bitmaps are not of the regions, in their order.
    formats::Status begin(std::span<const formats::PageBitmap> missing);

    /// Of what is missing only these pages stay so, and what is claimed. What of the others was
    /// asked for. invalid_argument as begin().
    formats::Result<std::vector<formats::PageRange>>
    narrow(std::span<const formats::PageBitmap> missing);

    void clear();
    /// Takes what is missing out of a bitmap of a whole region.
    void take_from(formats::PageBitmap& pages) const;

    [[nodiscard]] formats::PageCount count() const noexcept;
    [[nodiscard]] bool contains(formats::Gfn page) const;
    [[nodiscard]] bool intersects(formats::PageRange pages) const;
    [[nodiscard]] std::vector<formats::PageRange> runs() const;

    /// Of `pages`, those that are missing and that nobody else has claimed. The caller ends each
    /// claim with arrived() or give_up().
    [[nodiscard]] std::vector<formats::PageRange> claim(formats::PageRange pages);
    void arrived(formats::PageRange claimed);
    void give_up(formats::PageRange claimed);

    /// Of `pages`, those that are missing and that were not asked for before.
    [[nodiscard]] std::vector<formats::PageRange> ask(formats::PageRange pages);
    [[nodiscard]] std::vector<formats::PageRange> asked() const;

private:
    struct Region {
        formats::PageBitmap missing, claimed, asked;
    };
    formats::Status check_ram(std::span<const formats::PageBitmap> bitmaps) const;
    template <typename Function>
    void for_each_part(formats::PageRange pages, Function&& function);

    mutable std::mutex lock_;
    std::vector<Region> regions_;
    std::atomic<std::uint64_t> count_ = 0; ///< changes under the lock
};

} // namespace wherry::vmm
