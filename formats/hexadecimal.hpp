// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace wherry::formats {

/// Two lower-case digits for each byte, in their order.
std::string hexadecimal(std::span<const std::byte> bytes);

} // namespace wherry::formats
