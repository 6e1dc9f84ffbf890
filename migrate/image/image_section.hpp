// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_run.hpp"
#include "migrate/image/image_outline.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::migrate {

/// Table and payload of a section.
struct ImageSection {
    std::vector<std::byte> table;
    std::vector<std::byte> payload;
};

/// A section whose head, digest and filling are right; its type is known. Errors name the section.
/// Any thread.
formats::Result<ImageSection>
read_section(ImageSource& source, const ImageOutline& image, std::size_t number);

/// The same for a section of any type and length, piece by piece, and nothing of it is kept.
formats::Status check_section(ImageSource& source, const ImageOutline& image, std::size_t number);

/// Every byte of an image against its digests, without looking into it: for one that is encrypted,
/// without its key. Errors name the file.
formats::Status check_digests(ImageSource& source, const ImageAccess& access);

/// The runs of a chunk; their bytes are its payload, in this order.
formats::Result<std::vector<formats::PageRun>> runs_of(const ImageSection& chunk);

} // namespace wherry::migrate
