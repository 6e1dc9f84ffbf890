// SPDX-License-Identifier: Apache-2.0
#include "formats/hexadecimal.hpp"

#include <fmt/format.h>

namespace wherry::formats {

std::string hexadecimal(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte byte : bytes) {
        text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    }
    return text;
}

} // namespace wherry::formats
