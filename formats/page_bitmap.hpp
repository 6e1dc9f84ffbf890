// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/units.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace wherry::formats {

/// One bit for each page of a range. Pages and ranges given to it lie inside `pages()`. Not
/// thread-safe. A moved-from bitmap may only be assigned to or destroyed.
class PageBitmap {
public:
    /// All clear.
    explicit PageBitmap(PageRange pages);

    [[nodiscard]] PageRange pages() const noexcept { return pages_; }

    [[nodiscard]] bool test(Gfn page) const;
    void set(Gfn page);
    void clear(Gfn page);
    void set(PageRange range);
    void clear(PageRange range);
    void set_all();
    void clear_all() noexcept;

    /// Set operations with a bitmap of the same pages.
    void merge(const PageBitmap& other);
    void intersect(const PageBitmap& other);
    void subtract(const PageBitmap& other);
    /// Merges bits in the layout of words(); bits beyond the last page are ignored.
    void merge_words(std::span<const std::uint64_t> words);
    /// The same of a part of pages(), whose first page is bit 0 of the first word.
    void merge_words(PageRange part, std::span<const std::uint64_t> words);

    [[nodiscard]] PageCount count() const noexcept;
    [[nodiscard]] bool is_empty() const noexcept;

    /// The first run of set pages at or after `from`, cut at `longest` pages. `from` may be the
    /// end of pages().
    [[nodiscard]] std::optional<PageRange> next_run(Gfn from, PageCount longest) const;
    /// The first run of set pages inside `within`, which lies inside pages(). Looks no further.
    [[nodiscard]] std::optional<PageRange> first_run_in(PageRange within) const;

    /// Bit i of word w is page first + 64 w + i; bits beyond the last page are zero.
    [[nodiscard]] std::span<const std::uint64_t> words() const noexcept { return words_; }

    friend bool operator==(const PageBitmap&, const PageBitmap&) = default;

private:
    [[nodiscard]] std::uint64_t index_of(Gfn page) const;
    void clear_tail() noexcept;

    PageRange pages_;
    std::vector<std::uint64_t> words_;
};

} // namespace wherry::formats
