// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/result.hpp"
#include "migrate/epoch.hpp"
#include "migrate/plan.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::migrate {

/// What an image holds of its guest. The numbers are in files.
enum class ImageExtent : std::uint8_t {
    whole = 1,
    source_half = 2,      ///< as it was at the switch to post-copy; it went on elsewhere
    destination_half = 3, ///< as it is, but for the pages that never came
};
/// "the source's half", for messages.
std::string_view name_of(ImageExtent extent) noexcept;

/// What an image says of itself before its guest's state and pages.
struct ImageDescription {
    ImageExtent extent = ImageExtent::whole;
    Plan plan;
    Epoch epoch{};            ///< the VM was held as, or, of a half, SALVAGED's
    std::string migration_id; ///< of the migration that the halves are of
    std::string arbiter = "local";
    std::chrono::sys_seconds written_at; ///< for people
    formats::PageCount absent;           ///< pages whose contents are not in it
};

std::vector<std::byte> encode(const ImageDescription& description);
/// Total; all texts are fit to be shown.
formats::Result<ImageDescription> decode_image_description(std::span<const std::byte> bytes);

/// Empty, over the RAM that the plan describes.
dirtylog::DirtySet no_pages_of(const Plan& plan);

} // namespace wherry::migrate
