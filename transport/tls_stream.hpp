// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"
#include "transport/tls_context.hpp"

#include <cstdint>
#include <memory>
#include <string>

#include <boost/asio/ip/tcp.hpp>

namespace wherry::transport {

struct TlsStreamOptions {
    /// New keys are taken into use after this many bytes in one direction, well below the limit of
    /// AES-GCM (2^24.5 records of 16 KiB: RFC 8446, 5.5).
    std::uint64_t rekey_after_bytes = std::uint64_t{64} << 30U;
};

/// Shakes hands as the client over a connected socket and checks that the server's certificate is
/// for `host` (name or address literal; subject alternative names only). Cancellable; bound it with
/// within(). On failure the socket is closed and the error says what was wrong with whom.
Task<std::unique_ptr<ByteStream>> tls_connect(
    boost::asio::ip::tcp::socket socket,
    TlsContext context,
    std::string host,
    TlsStreamOptions options = {});
/// The same as the server, which demands a client certificate.
Task<std::unique_ptr<ByteStream>>
tls_accept(boost::asio::ip::tcp::socket socket, TlsContext context, TlsStreamOptions options = {});

} // namespace wherry::transport
