// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <filesystem>
#include <string>

namespace wherry::migrate {

/// All of a small file that only its owner may read or write; `permission`, and how to change that,
/// for another. The caller wipes what was read.
formats::Result<std::string> read_secret_file(const std::filesystem::path& path);
/// All of a small file.
formats::Result<std::string> read_small_file(const std::filesystem::path& path);

} // namespace wherry::migrate
