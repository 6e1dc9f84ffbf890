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
}

EncodedSection SectionEncoder::encode(const SectionContents& contents) {
    std::span<const std::byte> payload{contents.payload};
    bool is_compressed = false;
    if (compressor_ && contents.type != SectionType::index && blocks_of(payload) > 1) {
        const auto frame = compressor_->compress(payload);
        is_compressed = blocks_of(frame) < blocks_of(payload);
        payload = is_compressed ? frame : payload;
    }
    EncodedSection section;
    section.head = {
        .type = contents.type,
        .is_critical = contents.is_critical,
        .is_compressed = is_compressed,
        .table_length = static_cast<std::uint32_t>(contents.table.size()),
        .payload_length = Bytes{payload.size()},
        .digest = digest_.update(contents.table).update(payload).finish()};
    section.bytes.resize(formats::section_length(section.head).value());
    const std::span<std::byte> bytes{section.bytes};
    const auto head = formats::encode_section_head(section.head, contents.number, id_);
    std::ranges::copy(head, bytes.begin());
    std::ranges::copy(contents.table, bytes.subspan(head.size()).begin());
    std::ranges::copy(payload, bytes.subspan(formats::front_length(section.head).value()).begin());
    return section;
}

} // namespace wherry::migrate
