// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/image/image_options.hpp"

#include <string>

namespace wherry::tools {

/// How somebody wants a new image to be written.
struct NewImage {
    std::string layout = "zstd"; ///< or "raw"
    int level = migrate::ImageOptions{}.level;
    std::string key;         ///< path of a key file; empty: not encrypted
    std::string signing_key; ///< path of a private key; empty: not signed
};

/// With the keys read. `invalid_argument` where there is no such layout or level.
formats::Result<migrate::ImageOptions> options_of(const NewImage& wanted);

} // namespace wherry::tools
