// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"
#include "migrate/image/image_chain.hpp"
#include "tools/cli/commands.hpp"
#include "tools/new_image.hpp"

#include <memory>
#include <string>

namespace CLI {
class App;
}

namespace wherry::tools {

/// What is asked of an image that is there: which, with which keys, how it is to be answered.
struct ImageQuestion {
    std::string file;
    std::string key;
    std::string trust;
    std::string bases;
    bool is_json = false;
};
/// Keys, and where base images are.
void add_access(CLI::App& command, ImageQuestion& into);
/// The same, and how to answer.
void add_question(CLI::App& command, ImageQuestion& into);
formats::Result<migrate::ImageAccess> access_of(const ImageQuestion& asked);
/// The image, and not what it is based on.
formats::Result<migrate::ImageReader> open_for(const ImageQuestion& asked);
formats::Result<migrate::ImageChain>
open_chain_for(const ImageQuestion& asked, const std::string& file);

/// --layout, --level, --encrypt and --sign.
void add_new_image(CLI::App& command, NewImage& into);

api::Image describe(const migrate::ImageReader& image);
/// Several lines, or one JSON object.
void print(const migrate::ImageReader& image, bool is_json);

/// image verify|ls-chain|diff|flatten|convert.
void add_chains(CLI::App& image, Action& action, const std::shared_ptr<ImageQuestion>& asked);

} // namespace wherry::tools
