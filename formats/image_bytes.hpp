// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "formats/result.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

/// What readers and writers of an image's bytes share: fields that are no numbers, and what is said
/// of bytes that are wrong. Offsets lie inside the bytes.
namespace wherry::formats {

/// Error{corrupted}; says what is wrong, and not of which image.
inline std::unexpected<Error> damaged(std::string what) {
    return fail(ErrorCode::corrupted, std::move(what));
}

inline void put_text(std::span<std::byte> bytes, std::size_t at, std::string_view text) {
    std::memcpy(bytes.subspan(at, text.size()).data(), text.data(), text.size());
}
inline bool has_text(std::span<const std::byte> bytes, std::size_t at, std::string_view text) {
    return std::memcmp(bytes.subspan(at, text.size()).data(), text.data(), text.size()) == 0;
}
template <std::size_t size>
void put_bytes(
    std::span<std::byte> bytes, std::size_t at, const std::array<std::byte, size>& from) {
    std::ranges::copy(from, bytes.subspan(at, size).begin());
}
template <std::size_t size>
std::array<std::byte, size> get_bytes(std::span<const std::byte> bytes, std::size_t at) {
    std::array<std::byte, size> into{};
    std::ranges::copy(bytes.subspan(at, size), into.begin());
    return into;
}
/// What fills blocks up must be.
inline bool is_zero(std::span<const std::byte> bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}
inline std::uint64_t checksum_of(std::span<const std::byte> bytes) {
    return static_cast<std::uint64_t>(digest_of(bytes));
}

} // namespace wherry::formats
