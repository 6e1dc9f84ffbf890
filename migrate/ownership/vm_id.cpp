// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/vm_id.hpp"

#include "formats/random_bytes.hpp"

#include <algorithm>
#include <span>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

constexpr bool has_dash_before(std::size_t byte) {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int nibble(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

} // namespace

VmId VmId::make() {
    std::array<std::uint8_t, 16> bytes{};
    const auto filled =
        formats::fill_randomly(std::as_writable_bytes(std::span{bytes}), "the id of a VM");
    formats::invariant(filled.has_value(), "the kernel gives 16 random bytes");
    bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0fU) | 0x40U);
    bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3fU) | 0x80U);
    return VmId{bytes};
}

formats::Result<VmId> VmId::parse(std::string_view text) {
    std::array<std::uint8_t, 16> bytes{};
    bool is_good = text.size() == 36;
    std::size_t at = 0;
    for (std::size_t i = 0; i < bytes.size() && is_good; ++i) {
        is_good = !has_dash_before(i) || text[at++] == '-';
        const int high = nibble(text[at]);
        const int low = nibble(text[at + 1]);
        at += 2;
        is_good = is_good && high >= 0 && low >= 0;
        bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
    }
    if (!is_good || std::ranges::all_of(bytes, [](auto byte) { return byte == 0; })) {
        return formats::fail(
            formats::ErrorCode::invalid_argument,
            "not the id of a VM: a UUID is 36 lower-case characters");
    }
    return VmId{bytes};
}

std::string VmId::to_string() const {
    std::string text;
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
        text += fmt::format("{}{:02x}", has_dash_before(i) ? "-" : "", bytes_[i]);
    }
    return text;
}

} // namespace wherry::migrate
