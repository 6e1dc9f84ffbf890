// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::formats {

// The payload of an image's page map section: which chunk counts for which pages. The bytes are
// specified in docs/image-format.md.

inline constexpr std::size_t page_map_entry_size = 16;
/// Of one section, at most; a map may take several.
inline constexpr std::size_t page_map_entries_limit = std::size_t{1} << 16U;
/// As many are written into one section: who looks for a page reads and checks all of one or two.
inline constexpr std::size_t page_map_entries_per_section = std::size_t{1} << 12U;

struct PageMapEntry {
    PageRange pages;
    std::uint32_t chunk; ///< number of a section
    friend bool operator==(const PageMapEntry&, const PageMapEntry&) = default;
};

/// Where the entry in front of a payload begins. For a first look: nothing has been checked.
Gfn first_page_in(std::span<const std::byte, page_map_entry_size> entry) noexcept;
/// Precondition: ascending, of at most 2^32-1 pages each, and not more than the limit.
std::vector<std::byte> encode_page_map(std::span<const PageMapEntry> entries);
/// Appends a section's entries to those of the sections in front of it. Total: ascending entries
/// that do not overlap, at least one of this section and not more than the limit; or an
/// Error{corrupted}, with some of them appended. Whether the pages are RAM and the chunks there is
/// for the caller to check.
Status decode_page_map(std::span<const std::byte> payload, std::vector<PageMapEntry>& entries);

} // namespace wherry::formats
