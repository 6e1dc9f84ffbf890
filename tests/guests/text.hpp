// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace wherry::guest {

/// One line of output, built in place. What does not fit is cut; the line end always fits.
class Line {
public:
    explicit Line(std::string_view kind) noexcept;

    Line& text(std::string_view piece) noexcept;
    Line& number(std::uint64_t value) noexcept;
    Line& hex(std::uint64_t value) noexcept;
    Line& field(std::string_view name, std::uint64_t value) noexcept;
    Line& hex_field(std::string_view name, std::uint64_t value) noexcept;
    Line& field(std::string_view name, std::string_view value) noexcept;

    /// Appends the line end and shows the whole.
    [[nodiscard]] std::string_view finish() noexcept;

private:
    std::array<char, 640> bytes_;
    std::size_t size_ = 0;
};

} // namespace wherry::guest
