// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_section.hpp"

#include "formats/image_bytes.hpp"
#include "formats/zstd_frame.hpp"
#include "migrate/image/section_digest.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::damaged;
using formats::ErrorCode;
using formats::fail;
using formats::IndexEntry;
using formats::is_zero;
using formats::Result;
using formats::SectionHead;
using formats::Status;

namespace {

constexpr Bytes block{formats::image_block};
constexpr Bytes head_size{formats::section_head_size};

/// The index, whose digest is right, says what must stand here.
Status check_head(std::span<const std::byte> front, const ImageOutline& image, std::size_t at) {
    const auto number = static_cast<std::uint32_t>(at);
    const auto expected =
        formats::encode_section_head(image.sections[at].head, number, image.header.id);
    if (std::ranges::equal(front.first(expected.size()), expected)) {
        return {};
    }
    const auto found = formats::decode_section_head(front.first<formats::section_head_size>());
    if (!found) {
        return fail(found.error());
    }
    if (found->id != image.header.id) {
        return damaged("it is of another image");
    }
    if (found->number != number) {
        return damaged(fmt::format("it is out of order: section {} stands here", found->number));
    }
    return damaged("it is not the section that the index tells of");
}

/// Table and payload out of the ciphertext.
Result<ImageSection>
open_sealed(std::span<const std::byte> sealed, const ImageOutline& image, std::size_t number) {
    if (!image.key) {
        return fail(ErrorCode::authentication, "it is encrypted: --key KEYFILE");
    }
    const SectionHead& head = image.sections[number].head;
    auto opened = image.key->open(
        {.number = static_cast<std::uint32_t>(number),
         .type = head.type,
         .flags = formats::flags_of(head)},
        sealed);
    if (!opened) {
        return fail(std::move(opened).error());
    }
    if (opened->table.size() > formats::section_table_limit(head.type) ||
        Bytes{opened->payload.size()} > formats::section_payload_limit(head.type)) {
        return damaged("what was sealed is longer than the limit");
    }
    return ImageSection{.table = std::move(opened->table), .payload = std::move(opened->payload)};
}

/// With its payload as it would be uncompressed.
Result<ImageSection> expand(ImageSection section, const ImageOutline& image, std::size_t number) {
    if (!image.header.needs(formats::zstd_feature)) {
        return damaged("it is compressed, and the header does not say that there is such");
    }
    const auto limit = formats::section_payload_limit(image.sections[number].head.type);
    auto contents = formats::decompress_zstd(section.payload, limit);
    if (!contents) {
        return fail(std::move(contents).error());
    }
    section.payload = *std::move(contents);
    return section;
}

} // namespace

Result<ImageSection>
read_section(ImageSource& source, const ImageOutline& image, std::size_t number) {
    const IndexEntry& entry = image.sections[number];
    const SectionHead& head = entry.head;
    std::vector<std::byte> front(formats::front_length(head).value());
    std::vector<std::byte> payload(
        (formats::section_length(head) - formats::front_length(head)).value());
    auto done = source.read(entry.offset, front);
    if (done) {
        done = source.read(entry.offset + Bytes{front.size()}, payload);
    }
    if (done) {
        done = check_head(front, image, number);
    }
    if (!done) {
        return fail(std::move(done).error().during(image.place_of(number)));
    }
    const auto table = std::span{front}.subspan(head_size.value(), head.table_length);
    const auto used = head_size.value() + table.size();
    const auto length = head.payload_length.value();
    SectionDigest digest{digest_kind_of(image.header)};
    if (digest.update(table).update(std::span{payload}.first(length)).finish() != head.digest) {
        return damaged(image.place_of(number) + ": its digest does not match");
    }
    if (!is_zero(std::span{front}.subspan(used)) || !is_zero(std::span{payload}.subspan(length))) {
        return damaged(image.place_of(number) + ": what fills its blocks up is not zero");
    }
    payload.resize(length);
    Result<ImageSection> section =
        head.is_sealed
            ? open_sealed(payload, image, number)
            : ImageSection{.table = {table.begin(), table.end()}, .payload = std::move(payload)};
    if (section && head.is_compressed) {
        section = expand(*std::move(section), image, number);
    }
    return section ? std::move(section)
                   : fail(std::move(section).error().during(image.place_of(number)));
}

Status check_section(ImageSource& source, const ImageOutline& image, std::size_t number) {
    const IndexEntry& entry = image.sections[number];
    SectionDigest digest{digest_kind_of(image.header)};
    const Bytes begin = entry.offset;
    const Bytes end = begin + formats::section_length(entry.head);
    const Bytes table_end = begin + head_size + Bytes{entry.head.table_length};
    const Bytes payload_at = begin + formats::front_length(entry.head);
    const Bytes payload_end = payload_at + entry.head.payload_length;
    formats::ImageBlock piece{};
    for (Bytes at = begin; at < end; at += block) {
        if (auto got = source.read(at, piece); !got) {
            return fail(std::move(got).error().during(image.place_of(number)));
        }
        const auto part = [&](Bytes from, Bytes to) {
            from = std::clamp(from, at, at + block);
            to = std::clamp(to, from, at + block);
            return std::span{piece}.subspan((from - at).value(), (to - from).value());
        };
        if (at == begin) {
            auto known = check_head(piece, image, number);
            if (!known) {
                return fail(std::move(known).error().during(image.place_of(number)));
            }
        }
        digest.update(part(begin + head_size, table_end)).update(part(payload_at, payload_end));
        if (!is_zero(part(table_end, payload_at)) || !is_zero(part(payload_end, end))) {
            return damaged(image.place_of(number) + ": what fills its blocks up is not zero");
        }
    }
    return digest.finish() == entry.head.digest
               ? Status{}
               : damaged(image.place_of(number) + ": its digest does not match");
}

Status check_digests(ImageSource& source, const ImageAccess& access) {
    const auto image = read_outline(source, access);
    if (!image) {
        return fail(formats::Error{image.error()}.during(source.name()));
    }
    for (std::size_t number = 0; number < image->sections.size(); ++number) {
        if (auto good = check_section(source, *image, number); !good) {
            return fail(std::move(good).error().during(source.name()));
        }
    }
    return {};
}

Result<std::vector<formats::PageRun>> runs_of(const ImageSection& chunk) {
    const auto table = std::span{chunk.table};
    const Bytes length = Bytes{table.size()} + Bytes{chunk.payload.size()};
    constexpr auto head_length = formats::batch_header_size;
    if (table.size() < head_length) {
        return damaged("it has no table");
    }
    const auto batch = formats::decode_batch_header(table.first<head_length>(), length);
    if (!batch) {
        return fail(batch.error());
    }
    if (table.size() != head_length + formats::table_length(*batch).value()) {
        return damaged("its table is not as long as it says");
    }
    return formats::decode_batch_table(*batch, table.subspan(head_length), length);
}

} // namespace wherry::migrate
