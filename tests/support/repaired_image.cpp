// SPDX-License-Identifier: Apache-2.0
#include "tests/support/repaired_image.hpp"

#include "formats/image.hpp"
#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"
#include "migrate/image/section_digest.hpp"

#include <algorithm>
#include <cstdint>

namespace wherry::tests {

namespace {

using Span = std::span<std::byte>;
constexpr std::size_t block = formats::image_block;

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
    return static_cast<std::uint64_t>(formats::digest_of(bytes));
}

bool fits(std::uint64_t at, std::uint64_t length, Span file) {
    return at <= file.size() && length <= file.size() - at;
}

void put(Span into, const formats::ImageDigest& digest) {
    std::ranges::copy(digest, into.begin());
}

void repair_section(
    Span file, Span entry, std::uint32_t number, const formats::ImageHeader& header) {
    const auto offset = formats::load_little<std::uint64_t>(entry, 0);
    const auto table = formats::load_little<std::uint32_t>(entry, 12);
    const auto payload = formats::load_little<std::uint64_t>(entry, 16);
    const auto flags = formats::load_little<std::uint16_t>(entry, 10);
    formats::SectionHead head{
        .type = formats::SectionType{formats::load_little<std::uint16_t>(entry, 8)},
        .is_critical = (flags & 1U) != 0,
        .is_compressed = (flags & 2U) != 0,
        .is_sealed = (flags & 4U) != 0,
        .table_length = table,
        .payload_length = formats::Bytes{payload},
        .digest = {}};
    const auto front = formats::front_length(head).value();
    if (payload > file.size() || !fits(offset, front, file) ||
        !fits(offset + front, payload, file)) {
        return;
    }
    migrate::SectionDigest digest{migrate::digest_kind_of(header)};
    head.digest = digest.update(file.subspan(offset + formats::section_head_size, table))
                      .update(file.subspan(offset + front, payload))
                      .finish();
    put(entry.subspan(32), head.digest);
    std::ranges::copy(
        formats::encode_section_head(head, number, header.id), file.subspan(offset).begin());
}

} // namespace

void repair_image(Span file) {
    if (file.size() < 4 * block || file.size() % block != 0) {
        return;
    }
    const auto length = formats::load_little<std::uint32_t>(file, 12);
    if (length <= block - 24) {
        formats::store_little(file, 16, checksum_of(file.subspan(24, length)));
    }
    const Span trailer = file.last(block);
    const auto header = formats::decode_image_header(file.first<block>());
    const auto at = formats::load_little<std::uint64_t>(trailer, 32);
    if (!header || !fits(at, 2 * block, file)) {
        return;
    }
    std::ranges::copy(header->id, trailer.subspan(16).begin());
    formats::store_little(trailer, 40, std::uint64_t{file.size()});
    const auto size = formats::load_little<std::uint64_t>(file.subspan(at), 16);
    if (!fits(at + block, size, file)) {
        return;
    }
    const Span index = file.subspan(at + block, size);
    const auto count = static_cast<std::uint32_t>(size / formats::index_entry_size);
    for (std::uint32_t number = 0; number < count; ++number) {
        const auto entry =
            index.subspan(number * formats::index_entry_size, formats::index_entry_size);
        repair_section(file, entry, number, *header);
    }
    migrate::SectionDigest digest{migrate::digest_kind_of(*header)};
    const formats::SectionHead head{
        .type = formats::SectionType::index,
        .is_critical = true,
        .table_length = 0,
        .payload_length = formats::Bytes{size},
        .digest = digest.update(index).finish()};
    const auto bytes = formats::encode_section_head(head, count, header->id);
    std::ranges::copy(bytes, file.subspan(at).begin());
    formats::ImageBlock first{};
    std::ranges::copy(file.first(block), first.begin());
    put(trailer.subspan(48), migrate::root_of(first, bytes, index));
    formats::store_little(trailer, 80, checksum_of(trailer.first(80)));
}

} // namespace wherry::tests
