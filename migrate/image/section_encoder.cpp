// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/section_encoder.hpp"

#include <algorithm>
#include <span>

namespace wherry::migrate {

using formats::Bytes;
using formats::SectionType;

namespace {

/// The blocks that a section's payload takes up.
std::uint64_t blocks_of(std::span<const std::byte> payload) {
    return formats::pages_for(Bytes{payload.size()}).value();
}

} // namespace

SectionEncoder::SectionEncoder(const ImageOptions& options, const formats::ImageId& id) : id_{id} {
    if (options.layout == ImageLayout::zstd) {
        compressor_.emplace(options.level);
    }
    if (options.key) {
        key_.emplace(*options.key, id);
    }
}

EncodedSection SectionEncoder::encode(const SectionContents& contents) {
    const bool is_index = contents.type == SectionType::index;
    std::span<const std::byte> payload{contents.payload};
    EncodedSection section;
    formats::SectionHead& head = section.head;
    head.type = contents.type;
    head.is_critical = contents.is_critical;
    head.is_sealed = key_ && !is_index;
    if (compressor_ && !is_index && blocks_of(payload) > 1) {
        const auto frame = compressor_->compress(payload);
        head.is_compressed = blocks_of(frame) < blocks_of(payload);
        payload = head.is_compressed ? frame : payload;
    }
    const Bytes table_length{contents.table.size()};
    head.payload_length = head.is_sealed
                              ? ImageKey::sealed_length(table_length, Bytes{payload.size()})
                              : Bytes{payload.size()};
    head.table_length = head.is_sealed ? 0 : static_cast<std::uint32_t>(contents.table.size());
    section.bytes.resize(formats::section_length(head).value());
    const std::span<std::byte> bytes{section.bytes};
    const auto table = bytes.subspan(formats::section_head_size, head.table_length);
    const auto stored =
        bytes.subspan(formats::front_length(head).value(), head.payload_length.value());
    if (head.is_sealed) {
        const SealedPlace place{
            .number = contents.number, .type = head.type, .flags = formats::flags_of(head)};
        key_->seal(place, contents.table, payload, stored);
    } else {
        std::ranges::copy(contents.table, table.begin());
        std::ranges::copy(payload, stored.begin());
    }
    head.digest = digest_.update(table).update(stored).finish();
    std::ranges::copy(formats::encode_section_head(head, contents.number, id_), bytes.begin());
    return section;
}

} // namespace wherry::migrate
