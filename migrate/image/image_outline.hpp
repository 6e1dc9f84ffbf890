// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/result.hpp"
#include "migrate/image/image_file.hpp"
#include "migrate/image/image_options.hpp"

#include <cstddef>
#include <memory>
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
    /// Null: the image is not encrypted, or no key was given. Of this outline and its copies.
    std::shared_ptr<const ImageKey> key;

    [[nodiscard]] bool is_encrypted() const { return header.needs(formats::sealed_feature); }
    [[nodiscard]] bool is_signed() const;

    /// "section 3 (chunk of pages)", for messages.
    [[nodiscard]] std::string place_of(std::size_t number) const;
    /// The one section of this type that there must be.
    [[nodiscard]] formats::Result<std::size_t> only_one_of(formats::SectionType type) const;
};

/// An image that is encrypted may be looked at from outside without its key. Errors do not name
/// the file.
formats::Result<ImageOutline> read_outline(ImageSource& source, const ImageAccess& access);

// Steps of it, for who cannot seek.
/// Of the header alone, before anything is judged to be damaged: the key, where one was given.
formats::Status admit(ImageOutline& image, const ImageAccess& access);
/// Once all of it is known: what the header announces of sections and trailer, and what only key
/// holders can have made.
formats::Status check_ends(const ImageOutline& image, const ImageAccess& access);

} // namespace wherry::migrate
