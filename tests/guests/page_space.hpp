// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/guests/boot_info.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace wherry::guest {

/// Hands out the RAM after the image for the guest's own tables, then numbers all pages that are
/// left 0, 1, 2, ... across the holes of the memory map. RAM below 1 MiB is not used: loaders keep
/// their structures there, and so does the trampoline of the other CPUs.
class PageSpace {
public:
    /// The ranges must hold the image's end. False: no RAM there.
    [[nodiscard]] bool start(std::span<const MemoryRange> ram, std::uint64_t image_end) noexcept;

    /// Zeroed whole pages for the guest's own use; nullptr: no room. Only before close().
    [[nodiscard]] void* allocate(std::uint64_t bytes) noexcept;

    /// Fixes the numbering; no more allocations.
    void close() noexcept;

    [[nodiscard]] std::uint32_t page_count() const noexcept { return page_count_; }
    [[nodiscard]] std::uint64_t ram_bytes() const noexcept { return ram_bytes_; }
    [[nodiscard]] std::uint64_t highest_byte() const noexcept { return highest_; }

    /// index < page_count().
    [[nodiscard]] std::uint32_t gfn_of(std::uint32_t index) const noexcept {
        std::size_t at = 0;
        while (index >= ranges_[at].end_index) {
            ++at;
        }
        return index + ranges_[at].gfn_minus_index;
    }

private:
    struct Range {
        std::uint32_t end_index;
        std::uint32_t gfn_minus_index;
    };

    std::array<MemoryRange, 16> free_{};
    std::size_t count_ = 0;
    std::array<Range, 16> ranges_{};
    std::uint32_t page_count_ = 0;
    std::uint64_t ram_bytes_ = 0;
    std::uint64_t highest_ = 0;
};

inline std::uint64_t* page_at(std::uint32_t gfn) noexcept {
    return reinterpret_cast<std::uint64_t*>(std::uint64_t{gfn} * page_bytes);
}

/// Extends boot.S's identity map of 4 GiB up to highest_byte (at most 512 GiB). False: too high, or
/// no room for the tables.
[[nodiscard]] bool map_all(PageSpace& space) noexcept;

} // namespace wherry::guest
