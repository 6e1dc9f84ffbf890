// SPDX-License-Identifier: Apache-2.0
#include "tools/quantities.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace wherry::tools {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

struct NumberAndSuffix {
    std::uint64_t number;
    std::string_view suffix;
};

Result<NumberAndSuffix> split(std::string_view text, std::string_view wanted) {
    std::uint64_t number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, problem] = std::from_chars(text.data(), end, number);
    if (problem != std::errc{}) {
        return fail(ErrorCode::invalid_argument, fmt::format("'{}' is not {}", text, wanted));
    }
    return NumberAndSuffix{number, std::string_view{stop, end}};
}

} // namespace

Result<Bytes> parse_size(std::string_view text) {
    constexpr std::string_view wanted = "a size like 512M or 2G";
    const auto parts = split(text, wanted);
    if (!parts) {
        return fail(parts.error());
    }
    constexpr std::string_view suffixes = "KMGT";
    unsigned shift = 0;
    if (!parts->suffix.empty()) {
        const auto at = suffixes.find(parts->suffix.front());
        const bool known = at != std::string_view::npos &&
                           (parts->suffix.size() == 1 || parts->suffix.substr(1) == "iB");
        if (!known) {
            return fail(ErrorCode::invalid_argument, fmt::format("'{}' is not {}", text, wanted));
        }
        shift = static_cast<unsigned>(10 * (at + 1));
    }
    if (parts->number > std::numeric_limits<std::uint64_t>::max() >> shift) {
        return fail(ErrorCode::invalid_argument, fmt::format("'{}' is too large a size", text));
    }
    return Bytes{parts->number << shift};
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    constexpr std::string_view wanted = "a time like 100ms, 2s or 5m";
    const auto parts = split(text, wanted);
    if (!parts) {
        return fail(parts.error());
    }
    std::uint64_t unit = 0;
    if (parts->suffix == "ms") {
        unit = 1;
    } else if (parts->suffix == "s") {
        unit = 1000;
    } else if (parts->suffix == "m") {
        unit = 60'000;
    } else {
        return fail(ErrorCode::invalid_argument, fmt::format("'{}' is not {}", text, wanted));
    }
    constexpr std::uint64_t longest_ms = 1000ULL * 60 * 60 * 24 * 365;
    if (parts->number > longest_ms / unit) {
        return fail(ErrorCode::invalid_argument, fmt::format("'{}' is longer than a year", text));
    }
    return std::chrono::milliseconds{parts->number * unit};
}

Result<Bytes> parse_optional_size(std::string_view text) {
    return text.empty() ? Result<Bytes>{Bytes{0}} : parse_size(text);
}

Result<std::chrono::milliseconds> parse_optional_duration(std::string_view text) {
    return text.empty() ? Result<std::chrono::milliseconds>{0} : parse_duration(text);
}

std::string format_bytes(double bytes) {
    constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < units.size()) {
        bytes /= 1024;
        ++unit;
    }
    const int decimals = unit == 0 || bytes >= 100 ? 0 : 1;
    return fmt::format("{:.{}f} {}", bytes, decimals, units[unit]);
}

std::string format_rate(double bytes_per_second) {
    return format_bytes(bytes_per_second) + "/s";
}

std::string format_duration(std::chrono::duration<double> duration) {
    const double seconds = duration.count();
    if (seconds < 1) {
        return fmt::format("{:.1f} ms", seconds * 1000);
    }
    if (seconds < 60) {
        return fmt::format("{:.1f} s", seconds);
    }
    const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
    if (whole < 3600) {
        return fmt::format("{:02}:{:02}", whole / 60, whole % 60);
    }
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

} // namespace wherry::tools
