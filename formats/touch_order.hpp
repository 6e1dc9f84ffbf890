// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/image.hpp"
#include "formats/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::formats {

// The file NAME.wimg.order beside an image: in which order a guest that was restored from it first
// touched its chunks. A hint, which any reader may ignore. The bytes are specified in
// docs/image-format.md.

struct TouchOrder {
    ImageDigest root{};                ///< of the image that it is of
    std::vector<std::uint32_t> chunks; ///< numbers of sections
    friend bool operator==(const TouchOrder&, const TouchOrder&) = default;
};

/// No file of this kind is longer.
inline constexpr std::size_t touch_order_limit =
    std::size_t{64} + sizeof(std::uint32_t) * image_sections_limit;

/// Precondition: not more chunks than an image may have sections.
std::vector<std::byte> encode_touch_order(const TouchOrder& order);
/// Total. Whether the numbers are those of chunks is for the caller to look at.
Result<TouchOrder> decode_touch_order(std::span<const std::byte> file);

} // namespace wherry::formats
