// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/guests/cpu.hpp"

#include <cstdint>
#include <string_view>

namespace wherry::guest {

enum class PageClass : std::uint8_t { zero, compressible, random };

/// What a page must hold: a pure function of these three. Zero pages have version 0 for ever.
struct PageContent {
    std::uint32_t gfn; ///< guest frame number: the page's identity
    std::uint32_t version;
    PageClass kind;
};

/// The mix of classes, set once before the first page is written.
struct ClassMix {
    std::uint32_t zero_percent;
    std::uint32_t compressible_percent;

    /// Decided by a hash of the frame number, so that classes are interleaved.
    [[nodiscard]] PageClass class_of(std::uint32_t gfn) const noexcept;
};

/// A page in identity-mapped memory. Whole 4 KiB are written or compared.
void write_page(std::uint64_t* page, PageContent content) noexcept;
/// The first `words` 64-bit words only: what a torn update leaves behind.
void write_page_part(std::uint64_t* page, PageContent content, unsigned words) noexcept;
[[nodiscard]] bool page_matches(const std::uint64_t* page, PageContent content) noexcept;

struct Mismatch {
    std::string_view kind; ///< stale, ahead, lost, torn or wrong
    std::uint32_t offset;  ///< of the first differing word, bytes
    std::uint64_t expected;
    std::uint64_t found;
    std::uint32_t found_version; ///< what the page's first differing line claims; 0 if nothing
};

/// Explains a page that does not match. Slow; for the error line only.
///   stale  the whole page is an older version        ahead  the whole page is a newer version
///   lost   the whole page is zero                    torn   some lines are right, others are not
///   wrong  none of these
[[nodiscard]] Mismatch explain_mismatch(const std::uint64_t* page, PageContent content) noexcept;

} // namespace wherry::guest
