// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/zstd_frame.hpp"
#include "migrate/image/image_options.hpp"
#include "migrate/image/section_digest.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace wherry::migrate {

/// A section before it is made what the file has of it.
struct SectionContents {
    formats::SectionType type{};
    bool is_critical = true;
    std::uint32_t number = 0;
    std::vector<std::byte> table;
    std::vector<std::byte> payload;
};

/// A section as the file has it: its front is head and table. Each up to a block's end.
struct EncodedSection {
    formats::SectionHead head;
    std::vector<std::byte> front;
    std::vector<std::byte> payload;
};

/// A signature vouches for what it can: an image that has one needs digests that nobody can forge.
DigestKind digest_kind_for(const ImageOptions& options);

/// Makes one of the other, as the options say. One thread.
class SectionEncoder {
public:
    SectionEncoder(const ImageOptions& options, const formats::ImageId& id);

    /// A number once.
    EncodedSection encode(SectionContents contents);

private:
    formats::ImageId id_;
    std::optional<formats::ZstdCompressor> compressor_; ///< none: layout raw
    std::optional<ImageKey> key_;                       ///< none: not encrypted
    SectionDigest digest_;
};

} // namespace wherry::migrate
