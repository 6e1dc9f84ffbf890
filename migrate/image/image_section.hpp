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

/// The runs of a chunk; their bytes are its payload, in this order.
formats::Result<std::vector<formats::PageRun>> runs_of(const ImageSection& chunk);

} // namespace wherry::migrate
