// SPDX-License-Identifier: Apache-2.0
#include "formats/page_set.hpp"

#include "formats/little_endian.hpp"

#include <fmt/format.h>

namespace wherry::formats {

namespace {

// Offsets of the fields; see WIRE.md.
namespace at {
constexpr std::size_t first = 0;
constexpr std::size_t count = 8;
constexpr std::size_t reserved = 12;
} // namespace at
static_assert(at::reserved + sizeof(std::uint32_t) == page_set_header_size);

constexpr std::uint64_t bits_per_word = 64;

std::size_t words_for(PageCount count) {
    return static_cast<std::size_t>((count.value() + bits_per_word - 1) / bits_per_word);
}

/// The bits of the last word that stand for no page.
std::uint64_t bits_beyond(PageCount count) {
    const std::uint64_t used = count.value() % bits_per_word;
    return used == 0 ? 0 : ~std::uint64_t{0} << used;
}

} // namespace

std::vector<std::byte> encode_page_set(PageRange pages, std::span<const std::uint64_t> words) {
    invariant(
        pages.count() <= pages_per_set && words.size() == words_for(pages.count()) &&
            (words.back() & bits_beyond(pages.count())) == 0,
        "a page set has a bit for each of its pages and no other");
    std::vector<std::byte> payload(page_set_header_size + words.size() * sizeof(std::uint64_t));
    store_little<std::uint64_t>(payload, at::first, pages.first().value());
    store_little<std::uint32_t>(
        payload, at::count, static_cast<std::uint32_t>(pages.count().value()));
    for (std::size_t i = 0; i < words.size(); ++i) {
        store_little(payload, page_set_header_size + i * sizeof(std::uint64_t), words[i]);
    }
    return payload;
}

Result<PageSet> decode_page_set(std::span<const std::byte> payload) {
    if (payload.size() < page_set_header_size) {
        return fail(ErrorCode::protocol, "a page set is shorter than its header");
    }
    const PageCount count{load_little<std::uint32_t>(payload, at::count)};
    const auto pages = PageRange::make(Gfn{load_little<std::uint64_t>(payload, at::first)}, count);
    if (!pages || count > pages_per_set) {
        return fail(
            ErrorCode::protocol,
            fmt::format("a page set of {} pages is not possible", count.value()));
    }
    if (load_little<std::uint32_t>(payload, at::reserved) != 0) {
        return fail(ErrorCode::protocol, "a page set has bits set that this version does not know");
    }
    const std::size_t size = words_for(count);
    if (payload.size() != page_set_header_size + size * sizeof(std::uint64_t)) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "a page set of {} pages does not have {} bytes", count.value(), payload.size()));
    }
    PageSet set{.pages = *pages, .words = std::vector<std::uint64_t>(size)};
    for (std::size_t i = 0; i < size; ++i) {
        set.words[i] =
            load_little<std::uint64_t>(payload, page_set_header_size + i * sizeof(std::uint64_t));
    }
    if ((set.words.back() & bits_beyond(count)) != 0) {
        return fail(ErrorCode::protocol, "a page set names pages beyond its end");
    }
    return set;
}

} // namespace wherry::formats
