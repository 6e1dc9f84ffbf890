// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/endpoint.hpp"

#include <string>

#include <boost/asio/ip/tcp.hpp>

namespace wherry::transport::detail {

/// No delay, keep-alive, a limit on unacknowledged time, non-blocking.
formats::Status tune(boost::asio::ip::tcp::socket& socket);
Endpoint endpoint_of(const boost::asio::ip::tcp::endpoint& at);
/// "10.0.0.1:7461", or "an unknown address" when the connection is already gone.
std::string peer_address(const boost::asio::ip::tcp::socket& socket);

} // namespace wherry::transport::detail
