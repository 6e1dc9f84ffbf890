// SPDX-License-Identifier: Apache-2.0
#include "transport/endpoint.hpp"

#include <algorithm>
#include <charconv>

#include <boost/asio/ip/address_v6.hpp>
#include <fmt/format.h>

namespace wherry::transport {

using formats::ErrorCode;
using formats::Result;

namespace {

Result<std::uint16_t> parse_port(std::string_view digits, std::string_view whole) {
    std::uint32_t port = 0;
    const auto* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, port);
    if (digits.empty() || error != std::errc{} || stop != end || port > 65535) {
        return formats::fail(
            ErrorCode::invalid_argument,
            fmt::format("'{}': '{}' is not a port number from 0 to 65535", whole, digits));
    }
    return static_cast<std::uint16_t>(port);
}

bool is_address_v6(std::string_view host) {
    boost::system::error_code error;
    boost::asio::ip::make_address_v6(std::string{host}, error);
    return !error;
}

bool is_host_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

std::unexpected<formats::Error> refuse(std::string_view whole, std::string_view why) {
    return formats::fail(ErrorCode::invalid_argument, fmt::format("'{}': {}", whole, why));
}

Result<Endpoint> parse_bracketed(std::string_view rest, std::string_view whole) {
    const auto closing = rest.find(']');
    if (closing == std::string_view::npos || rest.substr(closing + 1, 1) != ":") {
        return refuse(whole, "an IPv6 address is written [ADDRESS]:PORT");
    }
    const auto host = rest.substr(1, closing - 1);
    if (!is_address_v6(host)) {
        return refuse(whole, fmt::format("'{}' is not an IPv6 address", host));
    }
    auto port = parse_port(rest.substr(closing + 2), whole);
    if (!port) {
        return formats::fail(std::move(port).error());
    }
    return Endpoint{.host = std::string{host}, .port = *port};
}

} // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) {
    auto rest = text;
    if (rest.starts_with("tcp:")) {
        rest.remove_prefix(4);
    }
    if (rest.starts_with("[")) {
        return parse_bracketed(rest, text);
    }
    const auto colon = rest.rfind(':');
    if (colon == std::string_view::npos) {
        return refuse(text, "the port is missing: write HOST:PORT");
    }
    const auto host = rest.substr(0, colon);
    if (host.empty()) {
        return refuse(text, "the host is missing: write HOST:PORT (0.0.0.0:PORT for any address)");
    }
    if (host.find(':') != std::string_view::npos) {
        return refuse(text, "write HOST:PORT, tcp:HOST:PORT, or [ADDRESS]:PORT for IPv6");
    }
    if (host.size() > 253 || !std::ranges::all_of(host, is_host_character)) {
        return refuse(text, "the part before the colon is not a host name or address");
    }
    auto port = parse_port(rest.substr(colon + 1), text);
    if (!port) {
        return formats::fail(std::move(port).error());
    }
    return Endpoint{.host = std::string{host}, .port = *port};
}

std::string Endpoint::to_string() const {
    const bool bracketed = host.find(':') != std::string::npos;
    return bracketed ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

} // namespace wherry::transport
