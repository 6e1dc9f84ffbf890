// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_chain.hpp"
#include "migrate/image/image_options.hpp"

#include <filesystem>

namespace wherry::migrate {

/// Writes the guest of a chain to a new image that is based on nothing. The options' base does not
/// count.
formats::Status
flatten(ImageChain& chain, const std::filesystem::path& path, const ImageOptions& options);

/// Writes the youngest image of a chain as the options say to a new one, with the same base. It
/// has another root: what is based on the old one is not based on it.
formats::Status
convert(ImageChain& chain, const std::filesystem::path& path, const ImageOptions& options);

} // namespace wherry::migrate
