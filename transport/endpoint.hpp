// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace wherry::transport {

/// Where to connect to or listen on: a host name or address literal (without brackets) and a port.
struct Endpoint {
    std::string host;
    std::uint16_t port = 0;

    /// "host:port", "tcp:host:port", "[v6]:port". Port 0 is accepted: a listener gets a free one.
    static formats::Result<Endpoint> parse(std::string_view text);
    /// The form that parse() reads back.
    [[nodiscard]] std::string to_string() const;
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

} // namespace wherry::transport
