// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/endpoint.hpp"
#include "transport/task.hpp"

#include <vector>

#include <boost/asio/ip/tcp.hpp>

namespace wherry::transport::detail {

/// All addresses of a host. Error{unreachable} where there is none. Can be cancelled, but the
/// look-up behind it cannot: the io_context is not gone before that has ended.
Task<std::vector<boost::asio::ip::tcp::endpoint>> resolve(Endpoint to);

} // namespace wherry::transport::detail
