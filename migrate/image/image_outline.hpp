// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/result.hpp"
#include "migrate/image/image_file.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// What an image has around its sections, found right: header, index, trailer and root digest.
struct ImageOutline {
    formats::ImageHeader header;
    formats::ImageBlock header_block{};
    formats::ImageTrailer trailer;
    std::vector<formats::IndexEntry> sections;

    /// "section 3 (chunk of pages)", for messages.
    [[nodiscard]] std::string place_of(std::size_t number) const;
    /// The one section of this type that there must be.
    [[nodiscard]] formats::Result<std::size_t> only_one_of(formats::SectionType type) const;
};

/// Errors do not name the file.
formats::Result<ImageOutline> read_outline(ImageSource& source);

/// What fills blocks up must be.
bool is_zero(std::span<const std::byte> bytes) noexcept;

} // namespace wherry::migrate
