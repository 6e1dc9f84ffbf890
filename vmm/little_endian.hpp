// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace wherry::vmm {

/// For bytes from outside, beside formats/little_endian.hpp, whose callers know the length.
/// The number at `offset`, or nothing where it is not wholly inside. Total: any offset is legal.
template <std::unsigned_integral T>
std::optional<T> load_le(std::span<const std::byte> from, std::uint64_t offset) noexcept {
    if (offset > from.size() || from.size() - offset < sizeof(T)) {
        return std::nullopt;
    }
    T value = 0;
    for (std::size_t i = sizeof(T); i-- > 0;) {
        const auto byte = std::to_integer<T>(from[static_cast<std::size_t>(offset) + i]);
        value = static_cast<T>((static_cast<std::uint64_t>(value) << 8U) | byte);
    }
    return value;
}

template <std::unsigned_integral T>
void append_le(std::vector<std::byte>& to, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        to.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8U * i)));
    }
}

} // namespace wherry::vmm
