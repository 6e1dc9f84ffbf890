// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/section_encoder.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace wherry::migrate {

using formats::Bytes;
using formats::SectionType;

namespace {

/// The blocks that a section's payload takes up.
std::uint64_t blocks_of(std::span<const std::byte> payload) {
    return formats::pages_for(Bytes{payload.size()}).value();
}

} // namespace

DigestKind digest_kind_for(const ImageOptions& options) {
    return options.signing_key ? DigestKind::sha256 : DigestKind::xxh3;
}

SectionEncoder::SectionEncoder(const ImageOptions& options, const formats::ImageId& id)
    : id_{id},
      digest_{digest_kind_for(options)} {
    if (options.layout == ImageLayout::zstd) {
        compressor_.emplace(options.level);
    }
    if (options.key) {
        key_.emplace(*options.key, id);
    }
}

EncodedSection SectionEncoder::encode(SectionContents contents) {
    const bool is_index = contents.type == SectionType::index;
    // A part of the page map is looked for by its first entry, in the file as it stands.
    const bool may_compress = !is_index && contents.type != SectionType::page_map;
    EncodedSection section;
    formats::SectionHead& head = section.head;
    head.type = contents.type;
    head.is_critical = contents.is_critical;
    head.is_sealed = key_ && !is_index;
    if (compressor_ && may_compress && blocks_of(contents.payload) > 1) {
        const auto frame = compressor_->compress(contents.payload);
        head.is_compressed = blocks_of(frame) < blocks_of(contents.payload);
        if (head.is_compressed) {
            contents.payload.assign(frame.begin(), frame.end());
        }
    }
    if (head.is_sealed) {
        const Bytes length =
            ImageKey::sealed_length(Bytes{contents.table.size()}, Bytes{contents.payload.size()});
        section.payload.resize(length.value());
        const SealedPlace place{
            .number = contents.number, .type = head.type, .flags = formats::flags_of(head)};
        key_->seal(place, contents.table, contents.payload, section.payload);
        contents.table.clear();
    } else {
        section.payload = std::move(contents.payload);
    }
    head.table_length = static_cast<std::uint32_t>(contents.table.size());
    head.payload_length = Bytes{section.payload.size()};
    head.digest = digest_.update(contents.table).update(section.payload).finish();
    section.front.resize(formats::front_length(head).value());
    std::ranges::copy(
        formats::encode_section_head(head, contents.number, id_), section.front.begin());
    std::ranges::copy(
        contents.table, std::span{section.front}.subspan(formats::section_head_size).begin());
    section.payload.resize((formats::section_length(head) - formats::front_length(head)).value());
    return section;
}

} // namespace wherry::migrate
