// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <filesystem>
#include <string_view>

#include <sys/stat.h>

namespace wherry::transport::detail {

/// Makes a file that appears whole or not at all and is on disk on return. Error{already_exists}
/// when there is one of that name.
formats::Status
write_new_file(const std::filesystem::path& path, std::string_view text, mode_t mode);

} // namespace wherry::transport::detail
