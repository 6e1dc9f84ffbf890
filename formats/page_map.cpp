// SPDX-License-Identifier: Apache-2.0
#include "formats/page_map.hpp"

#include "formats/little_endian.hpp"

#include <limits>

#include <fmt/format.h>

namespace wherry::formats {

namespace {

// Offsets of the fields; see docs/image-format.md.
namespace entry_at {
constexpr std::size_t first = 0;
constexpr std::size_t count = 8;
constexpr std::size_t chunk = 12;
} // namespace entry_at
static_assert(entry_at::chunk + sizeof(std::uint32_t) == page_map_entry_size);

} // namespace

Gfn first_page_in(std::span<const std::byte, page_map_entry_size> entry) noexcept {
    return Gfn{load_little<std::uint64_t>(entry, entry_at::first)};
}

std::vector<std::byte> encode_page_map(std::span<const PageMapEntry> entries) {
    invariant(entries.size() <= page_map_entries_limit, "a page map is cut into sections");
    std::vector<std::byte> payload(entries.size() * page_map_entry_size);
    std::span<std::byte> rest{payload};
    for (const PageMapEntry& entry : entries) {
        const auto count = entry.pages.count().value();
        invariant(
            count <= std::numeric_limits<std::uint32_t>::max(), "an entry's pages are counted");
        store_little(rest, entry_at::first, entry.pages.first().value());
        store_little(rest, entry_at::count, static_cast<std::uint32_t>(count));
        store_little(rest, entry_at::chunk, entry.chunk);
        rest = rest.subspan(page_map_entry_size);
    }
    return payload;
}

Status decode_page_map(std::span<const std::byte> payload, std::vector<PageMapEntry>& entries) {
    const std::size_t count = payload.size() / page_map_entry_size;
    if (payload.size() % page_map_entry_size != 0 || count == 0 || count > page_map_entries_limit) {
        return fail(ErrorCode::corrupted, fmt::format("a page map has {} bytes", payload.size()));
    }
    const std::size_t before = entries.size();
    for (; !payload.empty(); payload = payload.subspan(page_map_entry_size)) {
        const auto pages = PageRange::make(
            Gfn{load_little<std::uint64_t>(payload, entry_at::first)},
            PageCount{load_little<std::uint32_t>(payload, entry_at::count)});
        if (!pages || (!entries.empty() && pages->first() < entries.back().pages.end())) {
            return fail(
                ErrorCode::corrupted,
                fmt::format("entry {} of a page map is not possible", entries.size() - before));
        }
        entries.push_back(
            {.pages = *pages, .chunk = load_little<std::uint32_t>(payload, entry_at::chunk)});
    }
    return {};
}

} // namespace wherry::formats
