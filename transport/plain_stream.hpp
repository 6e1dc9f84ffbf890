// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"

#include <memory>

#include <boost/asio/ip/tcp.hpp>

namespace wherry::transport {

/// Bare TCP, for `--insecure` only. Its ends are not authenticated: a read of 0 means no more than
/// a FIN. When the first bytes received are a TLS record (0x14..0x17, 0x03), the first read fails
/// with a hint, so a protocol above must not begin that way.
formats::Result<std::unique_ptr<ByteStream>> make_plain_stream(boost::asio::ip::tcp::socket socket);

} // namespace wherry::transport
