// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>

namespace wherry::formats {

static_assert(std::endian::native == std::endian::little, "wherry moves x86 guests between x86");

/// Precondition of both: the number lies inside the bytes.
template <std::unsigned_integral Number>
void store_little(std::span<std::byte> bytes, std::size_t offset, Number value) noexcept {
    std::memcpy(bytes.subspan(offset, sizeof value).data(), &value, sizeof value);
}
template <std::unsigned_integral Number>
Number load_little(std::span<const std::byte> bytes, std::size_t offset) noexcept {
    Number value{};
    std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
    return value;
}

} // namespace wherry::formats
