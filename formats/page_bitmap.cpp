// SPDX-License-Identifier: Apache-2.0
#include "formats/page_bitmap.hpp"

#include "formats/error.hpp"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace wherry::formats {

namespace {

constexpr std::uint64_t bits = 64;
constexpr std::uint64_t all_ones = std::numeric_limits<std::uint64_t>::max();

std::size_t words_for(PageCount pages) {
    return pages.value() / bits + (pages.value() % bits != 0 ? 1 : 0);
}

/// Bits [from, to) of a word; 0 <= from < to <= 64.
std::uint64_t mask(std::uint64_t from, std::uint64_t to) {
    return (all_ones << from) & (all_ones >> (bits - to));
}

/// Calls fn(word index, mask) for every word that bits [begin, end) touch.
template <typename Function>
void for_each_word(std::uint64_t begin, std::uint64_t end, Function&& fn) {
    while (begin < end) {
        const std::uint64_t word = begin / bits;
        const std::uint64_t next = std::min(end, (word + 1) * bits);
        fn(word, mask(begin % bits, next - word * bits));
        begin = next;
    }
}

/// First bit at or after `from` that is set in `words` (each XORed with `flip`), or `end`.
std::uint64_t find(
    std::span<const std::uint64_t> words,
    std::uint64_t from,
    std::uint64_t end,
    std::uint64_t flip) {
    if (from >= end) {
        return end;
    }
    std::uint64_t at = from / bits;
    std::uint64_t word = (words[at] ^ flip) & (all_ones << (from % bits));
    while (word == 0) {
        if (++at * bits >= end) {
            return end;
        }
        word = words[at] ^ flip;
    }
    return std::min(end, at * bits + static_cast<std::uint64_t>(std::countr_zero(word)));
}

} // namespace

PageBitmap::PageBitmap(PageRange pages) : pages_{pages}, words_(words_for(pages.count())) {}

std::uint64_t PageBitmap::index_of(Gfn page) const {
    invariant(pages_.contains(page), "a page lies inside the bitmap's range");
    return (page - pages_.first()).value();
}

bool PageBitmap::test(Gfn page) const {
    const std::uint64_t at = index_of(page);
    return (words_[at / bits] >> (at % bits) & 1U) != 0;
}

void PageBitmap::set(Gfn page) {
    const std::uint64_t at = index_of(page);
    words_[at / bits] |= std::uint64_t{1} << (at % bits);
}

void PageBitmap::clear(Gfn page) {
    const std::uint64_t at = index_of(page);
    words_[at / bits] &= ~(std::uint64_t{1} << (at % bits));
}

void PageBitmap::set(PageRange range) {
    invariant(pages_.contains(range), "a range lies inside the bitmap's range");
    const std::uint64_t begin = index_of(range.first());
    for_each_word(begin, begin + range.count().value(), [&](auto word, auto bits_in_word) {
        words_[word] |= bits_in_word;
    });
}

void PageBitmap::clear(PageRange range) {
    invariant(pages_.contains(range), "a range lies inside the bitmap's range");
    const std::uint64_t begin = index_of(range.first());
    for_each_word(begin, begin + range.count().value(), [&](auto word, auto bits_in_word) {
        words_[word] &= ~bits_in_word;
    });
}

void PageBitmap::set_all() {
    std::ranges::fill(words_, all_ones);
    clear_tail();
}

void PageBitmap::clear_all() noexcept {
    std::ranges::fill(words_, std::uint64_t{0});
}

void PageBitmap::clear_tail() noexcept {
    const std::uint64_t used = pages_.count().value() % bits;
    if (used != 0) {
        words_.back() &= mask(0, used);
    }
}

void PageBitmap::merge(const PageBitmap& other) {
    invariant(pages_ == other.pages_, "bitmaps that are merged are of the same pages");
    std::ranges::transform(words_, other.words_, words_.begin(), std::bit_or{});
}

void PageBitmap::intersect(const PageBitmap& other) {
    invariant(pages_ == other.pages_, "bitmaps that are intersected are of the same pages");
    std::ranges::transform(words_, other.words_, words_.begin(), std::bit_and{});
}

void PageBitmap::subtract(const PageBitmap& other) {
    invariant(pages_ == other.pages_, "bitmaps that are subtracted are of the same pages");
    const auto without = [](std::uint64_t a, std::uint64_t b) {
        return a & ~b;
    };
    std::ranges::transform(words_, other.words_, words_.begin(), without);
}

void PageBitmap::merge_words(std::span<const std::uint64_t> words) {
    invariant(words.size() == words_.size(), "merged words cover the bitmap's pages");
    std::ranges::transform(words_, words, words_.begin(), std::bit_or{});
    clear_tail();
}

void PageBitmap::merge_words(PageRange part, std::span<const std::uint64_t> words) {
    invariant(
        pages_.contains(part) && words.size() == words_for(part.count()),
        "merged words cover a part of the bitmap's pages");
    const std::uint64_t begin = index_of(part.first());
    const std::uint64_t shift = begin % bits;
    for_each_word(begin, begin + part.count().value(), [&](auto word, auto bits_in_word) {
        const auto at = static_cast<std::size_t>(word - begin / bits);
        std::uint64_t found = at < words.size() ? words[at] << shift : 0;
        if (shift != 0 && at != 0) {
            found |= words[at - 1] >> (bits - shift);
        }
        words_[word] |= found & bits_in_word;
    });
}

PageCount PageBitmap::count() const noexcept {
    std::uint64_t pages = 0;
    for (const std::uint64_t word : words_) {
        pages += static_cast<std::uint64_t>(std::popcount(word));
    }
    return PageCount{pages};
}

bool PageBitmap::is_empty() const noexcept {
    return std::ranges::all_of(words_, [](std::uint64_t word) { return word == 0; });
}

std::optional<PageRange> PageBitmap::next_run(Gfn from, PageCount longest) const {
    invariant(from >= pages_.first() && from <= pages_.end(), "a scan starts inside the range");
    invariant(longest > PageCount{0}, "a run has pages");
    const std::uint64_t size = pages_.count().value();
    const std::uint64_t begin = find(words_, (from - pages_.first()).value(), size, 0);
    if (begin == size) {
        return std::nullopt;
    }
    const std::uint64_t most = longest.value() < size - begin ? begin + longest.value() : size;
    const std::uint64_t end = find(words_, begin, most, all_ones);
    return pages_.part(PageCount{begin}, PageCount{end});
}

std::optional<PageRange> PageBitmap::first_run_in(PageRange within) const {
    invariant(pages_.contains(within), "a range lies inside the bitmap's range");
    const std::uint64_t first = index_of(within.first());
    const std::uint64_t behind = first + within.count().value();
    const std::uint64_t begin = find(words_, first, behind, 0);
    if (begin == behind) {
        return std::nullopt;
    }
    const std::uint64_t end = find(words_, begin, behind, all_ones);
    return pages_.part(PageCount{begin}, PageCount{end});
}

} // namespace wherry::formats
