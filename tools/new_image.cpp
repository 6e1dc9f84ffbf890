// SPDX-License-Identifier: Apache-2.0
#include "tools/new_image.hpp"

#include "formats/zstd_frame.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

Result<migrate::ImageOptions> options_of(const NewImage& wanted) {
    migrate::ImageOptions options;
    if (wanted.layout != "raw" && wanted.layout != "zstd") {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("'{}' is no layout: it is zstd or raw", wanted.layout));
    }
    options.layout =
        wanted.layout == "raw" ? migrate::ImageLayout::raw : migrate::ImageLayout::zstd;
    if (wanted.level < formats::zstd_lowest_level || wanted.level > formats::zstd_highest_level) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "a level of zstd is {} to {}, not {}",
                formats::zstd_lowest_level,
                formats::zstd_highest_level,
                wanted.level));
    }
    options.level = wanted.level;
    if (!wanted.key.empty()) {
        auto key = migrate::read_key_file(wanted.key);
        if (!key) {
            return fail(std::move(key).error());
        }
        options.key = *std::move(key);
    }
    if (!wanted.signing_key.empty()) {
        auto key = migrate::read_signing_key(wanted.signing_key);
        if (!key) {
            return fail(std::move(key).error());
        }
        options.signing_key = *std::move(key);
    }
    return options;
}

} // namespace wherry::tools
