// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::formats {

// The payload of a page set: some of the pages of one stretch of guest memory, one bit each. The
// bytes are specified in WIRE.md.

inline constexpr std::size_t page_set_header_size = 16;
/// Of one stretch: 4 GiB of guest memory, 128 KiB of bits.
inline constexpr PageCount pages_per_set{std::uint64_t{1} << 20U};
/// The largest payload of a page set.
inline constexpr Bytes page_set_limit{page_set_header_size + pages_per_set.value() / 8};

struct PageSet {
    /// At most pages_per_set.
    PageRange pages;
    /// Bit i of word w is page first + 64 w + i; bits beyond the last page are zero.
    std::vector<std::uint64_t> words;
    friend bool operator==(const PageSet&, const PageSet&) = default;
};

/// Precondition: as PageSet says of its members.
std::vector<std::byte> encode_page_set(PageRange pages, std::span<const std::uint64_t> words);
/// Total: any bytes give a set within its limits or an Error{protocol}.
Result<PageSet> decode_page_set(std::span<const std::byte> payload);

} // namespace wherry::formats
