// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <cstddef>
#include <span>
#include <string_view>

namespace wherry::formats {

/// Fills `bytes`, at most 256, from the kernel: good for keys. Fails only where the system call is
/// not to be had; the error says that it was for `purpose`.
Status fill_randomly(std::span<std::byte> bytes, std::string_view purpose);

} // namespace wherry::formats
