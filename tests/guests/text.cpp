// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/text.hpp"

namespace wherry::guest {

Line::Line(std::string_view kind) noexcept {
    text("wherry-guest ").text(kind);
}

Line& Line::text(std::string_view piece) noexcept {
    for (const char c : piece) {
        if (size_ + 1 < bytes_.size()) {
            bytes_[size_++] = c;
        }
    }
    return *this;
}

Line& Line::number(std::uint64_t value) noexcept {
    std::array<char, 20> digits;
    std::size_t first = digits.size();
    do {
        digits[--first] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return text({digits.data() + first, digits.size() - first});
}

Line& Line::hex(std::uint64_t value) noexcept {
    std::array<char, 18> digits; // 0x and 16 digits
    std::size_t first = digits.size();
    do {
        digits[--first] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    digits[--first] = 'x';
    digits[--first] = '0';
    return text({digits.data() + first, digits.size() - first});
}

Line& Line::field(std::string_view name, std::uint64_t value) noexcept {
    return text(" ").text(name).text("=").number(value);
}

Line& Line::hex_field(std::string_view name, std::uint64_t value) noexcept {
    return text(" ").text(name).text("=").hex(value);
}

Line& Line::field(std::string_view name, std::string_view value) noexcept {
    return text(" ").text(name).text("=").text(value);
}

std::string_view Line::finish() noexcept {
    bytes_[size_++] = '\n';
    return {bytes_.data(), size_};
}

} // namespace wherry::guest
