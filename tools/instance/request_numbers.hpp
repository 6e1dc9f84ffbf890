// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/policy.hpp"

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

/// A JSON number may be anything; what is no duration or rate at all is refused, by its name,
/// before it is converted.
inline formats::Status
check_numbers(std::initializer_list<std::pair<std::string_view, double>> numbers) {
    constexpr double largest = 1e15;
    for (const auto& [name, value] : numbers) {
        if (!(value >= 0 && value <= largest)) {
            return formats::fail(
                formats::ErrorCode::invalid_argument,
                fmt::format("{} is between 0 and {:.0f}, not {}", name, largest, value));
        }
    }
    return {};
}

inline migrate::Duration from_ms(double ms) {
    return std::chrono::duration_cast<migrate::Duration>(
        std::chrono::duration<double, std::milli>{ms});
}

inline migrate::BytesPerSecond rate_from(double bytes_per_second) {
    return migrate::BytesPerSecond{static_cast<std::uint64_t>(bytes_per_second)};
}

} // namespace wherry::tools
