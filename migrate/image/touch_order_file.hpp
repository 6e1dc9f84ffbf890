// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/result.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace wherry::migrate {

/// NAME.wimg.order, beside its image.
std::filesystem::path touch_order_path(const std::filesystem::path& image);

/// The chunks that a guest touched first when it was restored from the image of that root. Empty
/// where that is not known: no file, a damaged one, or one of another image.
std::vector<std::uint32_t>
read_touch_order(const std::filesystem::path& image, const formats::ImageDigest& root);

/// Replaces the file that may be there, in one step. An Error is for those who want to know: the
/// directory may well be read-only.
formats::Status write_touch_order(
    const std::filesystem::path& image,
    const formats::ImageDigest& root,
    std::span<const std::uint32_t> chunks);

} // namespace wherry::migrate
