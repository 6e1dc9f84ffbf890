// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

#include <chrono>
#include <string>
#include <string_view>

namespace wherry::tools {

/// "512M", "2G", "4096": binary suffixes K, M, G, T. Refuses signs, fractions, other suffixes and
/// what does not fit 64 bits, quoting the text.
formats::Result<formats::Bytes> parse_size(std::string_view text);
/// "100ms", "2s", "5m". A bare number is refused: it would be guessed.
formats::Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// The same of an option; the empty text, which asks for nothing, is 0.
formats::Result<formats::Bytes> parse_optional_size(std::string_view text);
formats::Result<std::chrono::milliseconds> parse_optional_duration(std::string_view text);

/// "1.2 GiB", "640 KiB", "12 B": for people.
std::string format_bytes(double bytes);
/// "812 MiB/s"
std::string format_rate(double bytes_per_second);
/// "3.2 ms", "1.4 s", "02:41" from a minute up.
std::string format_duration(std::chrono::duration<double> duration);

} // namespace wherry::tools
