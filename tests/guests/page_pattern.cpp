// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/page_pattern.hpp"

namespace wherry::guest {

namespace {

constexpr std::uint64_t odd_step = 0x9e3779b97f4a7c15;
constexpr std::uint64_t multiplier = 0x9fb21c651e98df25;
constexpr std::uint64_t prose = 0x7972726568772061; // the fixed part of compressible pages
constexpr unsigned line_words = 8;                  // a 64-byte line
constexpr unsigned lines = page_words / line_words;

using Vector [[gnu::vector_size(16)]] = std::uint64_t;

constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x ^= x >> 32;
    x *= multiplier;
    return x ^ (x >> 29);
}

constexpr std::uint64_t stamp(PageContent content) noexcept {
    return (std::uint64_t{content.gfn} << 32) | content.version;
}

/// Hides the stamps of random pages; depends on the place alone, so a stamp can be read back.
constexpr std::uint64_t stamp_mask(PageContent content, unsigned line) noexcept {
    return content.kind == PageClass::random
               ? mix((std::uint64_t{content.gfn} << 8 | line) * odd_step)
               : 0;
}

/// Calls visit(word index, expected value) for the words of one line. Every 64-bit word depends on
/// the version, so an update torn anywhere shows.
template <PageClass kind, typename Visit>
[[gnu::always_inline]] inline void
visit_line(PageContent content, std::uint64_t seed, unsigned line, Visit&& visit) noexcept {
    const unsigned first = line * line_words;
    content.kind = kind;
    visit(first, stamp(content) ^ stamp_mask(content, line));
    if constexpr (kind == PageClass::compressible) {
        visit(first + 1, mix(seed + first * odd_step));
        const auto filler = prose ^ ((content.version & 0xff) * 0x0101010101010101);
        for (unsigned i = 2; i < line_words; ++i) {
            visit(first + i, filler);
        }
    } else {
        for (unsigned i = 1; i < line_words; ++i) {
            visit(first + i, mix(seed + (first + i) * odd_step));
        }
    }
}

template <PageClass kind, typename Visit>
[[gnu::always_inline]] inline void visit_page(PageContent content, Visit&& visit) noexcept {
    const auto seed = mix(stamp(content) * odd_step) * multiplier;
    for (unsigned line = 0; line < lines; ++line) {
        visit_line<kind>(content, seed, line, visit);
    }
}

template <typename Visit>
void visit_words(PageContent content, Visit&& visit) noexcept {
    switch (content.kind) {
    case PageClass::zero:
        for (unsigned i = 0; i < page_words; ++i) {
            visit(i, std::uint64_t{0});
        }
        return;
    case PageClass::compressible:
        return visit_page<PageClass::compressible>(content, visit);
    case PageClass::random:
        return visit_page<PageClass::random>(content, visit);
    }
}

template <PageClass kind>
bool matches(const std::uint64_t* page, PageContent content) noexcept {
    std::uint64_t difference = 0;
    visit_page<kind>(
        content, [&](unsigned i, std::uint64_t word) { difference |= page[i] ^ word; });
    return difference == 0;
}

bool is_zero(const std::uint64_t* page) noexcept {
    const auto* vectors = reinterpret_cast<const Vector*>(page);
    Vector any{};
    for (unsigned i = 0; i < page_words / 2; i += 4) {
        any |= (vectors[i] | vectors[i + 1]) | (vectors[i + 2] | vectors[i + 3]);
    }
    return (any[0] | any[1]) == 0;
}

void clear(std::uint64_t* page) noexcept {
    auto* vectors = reinterpret_cast<Vector*>(page);
    for (unsigned i = 0; i < page_words / 2; ++i) {
        vectors[i] = Vector{};
    }
    asm volatile("" : : "r"(page) : "memory");
}

bool line_matches(const std::uint64_t* page, PageContent content, unsigned line) noexcept {
    std::uint64_t difference = 0;
    visit_words(content, [&](unsigned i, std::uint64_t word) {
        difference |= i / line_words == line ? page[i] ^ word : 0;
    });
    return difference == 0;
}

} // namespace

PageClass ClassMix::class_of(std::uint32_t gfn) const noexcept {
    const auto percent = ((mix((gfn + 1) * odd_step) >> 32) * 100) >> 32;
    if (percent < zero_percent) {
        return PageClass::zero;
    }
    return percent < zero_percent + compressible_percent ? PageClass::compressible
                                                         : PageClass::random;
}

void write_page(std::uint64_t* page, PageContent content) noexcept {
    const auto store = [page](unsigned i, std::uint64_t word) {
        page[i] = word;
    };
    switch (content.kind) {
    case PageClass::zero:
        return clear(page);
    case PageClass::compressible:
        return visit_page<PageClass::compressible>(content, store);
    case PageClass::random:
        return visit_page<PageClass::random>(content, store);
    }
}

void write_page_part(std::uint64_t* page, PageContent content, unsigned words) noexcept {
    visit_words(content, [&](unsigned i, std::uint64_t word) {
        if (i < words) {
            page[i] = word;
        }
    });
}

bool page_matches(const std::uint64_t* page, PageContent content) noexcept {
    asm volatile("" : : "r"(page) : "memory"); // memory may change under a paused guest
    switch (content.kind) {
    case PageClass::zero:
        return is_zero(page);
    case PageClass::compressible:
        return matches<PageClass::compressible>(page, content);
    case PageClass::random:
        return matches<PageClass::random>(page, content);
    }
    return false;
}

Mismatch explain_mismatch(const std::uint64_t* page, PageContent content) noexcept {
    Mismatch result{"wrong", 0, 0, 0, 0};
    bool differs = false;
    visit_words(content, [&](unsigned i, std::uint64_t word) {
        if (!differs && page[i] != word) {
            differs = true;
            result.offset = i * 8;
            result.expected = word;
            result.found = page[i];
        }
    });
    if (content.kind != PageClass::zero && is_zero(page)) {
        result.kind = "lost";
        return result;
    }
    const unsigned line = result.offset / 64;
    const auto found_stamp = page[line * line_words] ^ stamp_mask(content, line);
    unsigned right_lines = 0;
    for (unsigned i = 0; i < lines; ++i) {
        right_lines += line_matches(page, content, i) ? 1U : 0U;
    }
    if (content.kind != PageClass::zero && found_stamp >> 32 == content.gfn) {
        auto claimed = content;
        claimed.version = static_cast<std::uint32_t>(found_stamp);
        result.found_version = claimed.version;
        if (claimed.version != content.version && page_matches(page, claimed)) {
            result.kind = claimed.version < content.version ? "stale" : "ahead";
            return result;
        }
    }
    if (right_lines != 0 && content.kind != PageClass::zero) {
        result.kind = "torn";
    }
    return result;
}

} // namespace wherry::guest
