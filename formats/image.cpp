// SPDX-License-Identifier: Apache-2.0
#include "formats/image.hpp"

#include "formats/image_bytes.hpp"
#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"
#include "formats/page_map.hpp"
#include "formats/page_run.hpp"
#include "formats/page_set.hpp"
#include "formats/wire_frame.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace wherry::formats {

namespace {

// Offsets of the fields; see docs/image-format.md.
namespace head_at {
constexpr std::size_t magic = 0;
constexpr std::size_t type = 4;
constexpr std::size_t flags = 6;
constexpr std::size_t number = 8;
constexpr std::size_t table_length = 12;
constexpr std::size_t payload_length = 16;
constexpr std::size_t id = 24;
constexpr std::size_t digest = 40;
constexpr std::size_t checksum = 72;
} // namespace head_at
static_assert(head_at::checksum + sizeof(std::uint64_t) == section_head_size);
namespace entry_at {
constexpr std::size_t offset = 0;
constexpr std::size_t type = 8;
constexpr std::size_t flags = 10;
constexpr std::size_t table_length = 12;
constexpr std::size_t payload_length = 16;
constexpr std::size_t reserved = 24;
constexpr std::size_t digest = 32;
} // namespace entry_at
static_assert(entry_at::digest + sizeof(ImageDigest) == index_entry_size);
constexpr std::string_view section_magic = "WHSC";
constexpr std::uint16_t critical_flag = 1;
constexpr std::uint16_t compressed_flag = 2;
constexpr std::uint16_t sealed_flag = 4;
/// More than this no file has, so that sums of lengths do not wrap.
constexpr std::uint64_t longest = std::uint64_t{1} << 56U;

using Span = std::span<const std::byte>;

Bytes whole_blocks(Bytes length) {
    return bytes_of(pages_for(length));
}

Status check_lengths(const SectionHead& head) {
    if (head.payload_length.value() > longest) {
        return damaged("a section is longer than any file");
    }
    if (!is_known(head.type)) {
        if (!head.is_critical) {
            return {};
        }
        return fail(
            ErrorCode::unsupported,
            fmt::format(
                "it needs sections of type {}, which this version does not know",
                static_cast<unsigned>(head.type)));
    }
    const std::uint32_t table_limit = section_table_limit(head.type);
    const Bytes sealed = head.is_sealed ? Bytes{table_limit} + Bytes{sealing_overhead} : Bytes{0};
    if (head.table_length > (head.is_sealed ? 0 : table_limit) ||
        head.payload_length > section_payload_limit(head.type) + sealed) {
        return damaged(fmt::format(
            "a {} has {} and {} bytes, more than the limit",
            name_of(head.type),
            head.table_length,
            head.payload_length.value()));
    }
    return {};
}

Status take_flags(std::uint16_t flags, SectionHead& head) {
    if ((flags & ~(critical_flag | compressed_flag | sealed_flag)) != 0) {
        return fail(
            ErrorCode::unsupported,
            fmt::format("a section has the flags {:#x}, which this version does not know", flags));
    }
    head.is_critical = (flags & critical_flag) != 0;
    head.is_compressed = (flags & compressed_flag) != 0;
    head.is_sealed = (flags & sealed_flag) != 0;
    return {};
}

} // namespace

std::string_view name_of(SectionType type) noexcept {
    switch (type) {
    case SectionType::description:
        return "description";
    case SectionType::machine_state:
        return "machine state";
    case SectionType::pages:
        return "chunk of pages";
    case SectionType::absent_pages:
        return "list of absent pages";
    case SectionType::index:
        return "index";
    case SectionType::page_map:
        return "page map";
    }
    return "section of an unknown type";
}

bool is_known(SectionType type) noexcept {
    return type >= SectionType::description && type <= SectionType::page_map;
}

std::uint16_t flags_of(const SectionHead& head) noexcept {
    unsigned flags = head.is_critical ? critical_flag : 0U;
    flags |= head.is_compressed ? compressed_flag : 0U;
    flags |= head.is_sealed ? sealed_flag : 0U;
    return static_cast<std::uint16_t>(flags);
}

Bytes front_length(const SectionHead& head) noexcept {
    return whole_blocks(Bytes{section_head_size} + Bytes{head.table_length});
}
Bytes section_length(const SectionHead& head) noexcept {
    return front_length(head) + whole_blocks(head.payload_length);
}

Bytes section_payload_limit(SectionType type) noexcept {
    switch (type) {
    case SectionType::description:
        return 1_MiB;
    case SectionType::machine_state:
        return payload_limit(FrameType::machine_state);
    case SectionType::pages:
        return bytes_of(raw_pages_per_batch);
    case SectionType::absent_pages:
        return page_set_limit;
    case SectionType::index:
        return Bytes{index_entry_size} * image_sections_limit;
    case SectionType::page_map:
        return Bytes{page_map_entry_size} * page_map_entries_limit;
    }
    return Bytes{0};
}

std::uint32_t section_table_limit(SectionType type) noexcept {
    constexpr std::size_t batch_head = batch_header_size + run_entry_size * runs_per_batch;
    return type == SectionType::pages ? std::uint32_t{batch_head} : 0;
}

SectionHeadBytes
encode_section_head(const SectionHead& head, std::uint32_t number, const ImageId& id) {
    SectionHeadBytes into{};
    const std::span<std::byte> bytes{into};
    put_text(bytes, head_at::magic, section_magic);
    store_little(bytes, head_at::type, static_cast<std::uint16_t>(head.type));
    store_little(bytes, head_at::flags, flags_of(head));
    store_little(bytes, head_at::number, number);
    store_little(bytes, head_at::table_length, head.table_length);
    store_little(bytes, head_at::payload_length, head.payload_length.value());
    put_bytes(bytes, head_at::id, id);
    put_bytes(bytes, head_at::digest, head.digest);
    store_little(bytes, head_at::checksum, checksum_of(bytes.first(head_at::checksum)));
    return into;
}

Result<FoundSection> decode_section_head(std::span<const std::byte, section_head_size> bytes) {
    if (!has_text(bytes, head_at::magic, section_magic) ||
        load_little<std::uint64_t>(bytes, head_at::checksum) !=
            checksum_of(Span{bytes}.first(head_at::checksum))) {
        return damaged("no section begins here");
    }
    FoundSection found;
    auto known = take_flags(load_little<std::uint16_t>(bytes, head_at::flags), found.head);
    if (!known) {
        return fail(std::move(known).error());
    }
    found.head.type = SectionType{load_little<std::uint16_t>(bytes, head_at::type)};
    found.head.table_length = load_little<std::uint32_t>(bytes, head_at::table_length);
    found.head.payload_length = Bytes{load_little<std::uint64_t>(bytes, head_at::payload_length)};
    found.head.digest = get_bytes<sizeof(ImageDigest)>(bytes, head_at::digest);
    found.number = load_little<std::uint32_t>(bytes, head_at::number);
    found.id = get_bytes<sizeof(ImageId)>(bytes, head_at::id);
    if (auto good = check_lengths(found.head); !good) {
        return fail(std::move(good).error());
    }
    return found;
}

std::vector<std::byte> encode_image_index(std::span<const IndexEntry> entries) {
    std::vector<std::byte> payload(entries.size() * index_entry_size);
    std::span<std::byte> rest{payload};
    for (const IndexEntry& entry : entries) {
        store_little(rest, entry_at::offset, entry.offset.value());
        store_little(rest, entry_at::type, static_cast<std::uint16_t>(entry.head.type));
        store_little(rest, entry_at::flags, flags_of(entry.head));
        store_little(rest, entry_at::table_length, entry.head.table_length);
        store_little(rest, entry_at::payload_length, entry.head.payload_length.value());
        put_bytes(rest, entry_at::digest, entry.head.digest);
        rest = rest.subspan(index_entry_size);
    }
    return payload;
}

Result<std::vector<IndexEntry>> decode_image_index(Span payload, Bytes index_offset) {
    const std::size_t count = payload.size() / index_entry_size;
    if (payload.size() % index_entry_size != 0 || count > image_sections_limit) {
        return damaged(fmt::format("its index has {} bytes", payload.size()));
    }
    std::vector<IndexEntry> entries;
    entries.reserve(count);
    Bytes next{image_block};
    for (std::size_t number = 0; number < count; ++number) {
        const auto bytes = payload.subspan(number * index_entry_size, index_entry_size);
        IndexEntry entry;
        entry.offset = Bytes{load_little<std::uint64_t>(bytes, entry_at::offset)};
        entry.head.type = SectionType{load_little<std::uint16_t>(bytes, entry_at::type)};
        entry.head.table_length = load_little<std::uint32_t>(bytes, entry_at::table_length);
        entry.head.payload_length =
            Bytes{load_little<std::uint64_t>(bytes, entry_at::payload_length)};
        entry.head.digest = get_bytes<sizeof(ImageDigest)>(bytes, entry_at::digest);
        auto known = take_flags(load_little<std::uint16_t>(bytes, entry_at::flags), entry.head);
        if (!known) {
            return fail(std::move(known).error());
        }
        if (auto good = check_lengths(entry.head); !good) {
            return fail(std::move(good).error().during(fmt::format("section {}", number)));
        }
        if (entry.offset != next || load_little<std::uint64_t>(bytes, entry_at::reserved) != 0 ||
            entry.head.type == SectionType::index) {
            return damaged(fmt::format("entry {} of its index is not possible", number));
        }
        next += section_length(entry.head);
        if (next > index_offset) {
            return damaged(fmt::format("section {} reaches beyond its index", number));
        }
        entries.push_back(entry);
    }
    if (next != index_offset) {
        return damaged("its index does not name all that is in front of it");
    }
    return entries;
}

} // namespace wherry::formats
