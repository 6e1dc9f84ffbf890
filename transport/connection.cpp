// SPDX-License-Identifier: Apache-2.0
#include "transport/connection.hpp"

#include "transport/detail/resolve.hpp"
#include "transport/detail/socket.hpp"
#include "transport/plain_stream.hpp"
#include "transport/tls_stream.hpp"

#include <algorithm>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <fmt/format.h>

namespace wherry::transport {

using boost::asio::ip::tcp;
using formats::ErrorCode;
using formats::fail;
using formats::Status;

namespace {

constexpr std::chrono::milliseconds first_pause{20};
constexpr std::chrono::milliseconds longest_pause{500};

/// One pass over all addresses. `last_cause` is set to the last failure.
Task<std::optional<tcp::socket>>
try_each(std::vector<tcp::endpoint> addresses, boost::system::error_code& last_cause) {
    auto executor = co_await boost::asio::this_coro::executor;
    for (const auto& address : addresses) {
        tcp::socket socket{executor};
        auto [error] = co_await socket.async_connect(address, as_result);
        auto alive = co_await check_cancelled();
        if (!alive) {
            co_return fail(std::move(alive).error());
        }
        if (!error) {
            co_return std::optional<tcp::socket>{std::move(socket)};
        }
        last_cause = error;
    }
    co_return std::optional<tcp::socket>{};
}

std::unexpected<formats::Error>
cannot_connect(const Endpoint& to, const boost::system::error_code& cause) {
    const bool is_refused = cause == boost::asio::error::connection_refused;
    return fail(
        ErrorCode::unreachable,
        fmt::format(
            "cannot connect to {}: {}{}",
            to.to_string(),
            cause.message(),
            is_refused ? "; is anything listening there?" : ""));
}

/// Until connected; only a refusal is tried again, and that where somebody may be about to listen.
Task<std::optional<tcp::socket>>
connect_socket(Endpoint to, bool waits_for_listener, boost::system::error_code& last_cause) {
    auto addresses = co_await detail::resolve(to);
    if (!addresses) {
        co_return fail(std::move(addresses).error());
    }
    for (auto pause = first_pause;; pause = std::min(pause * 2, longest_pause)) {
        auto socket = co_await try_each(*addresses, last_cause);
        if (!socket || *socket) {
            co_return std::move(socket);
        }
        if (!waits_for_listener || last_cause != boost::asio::error::connection_refused) {
            co_return cannot_connect(to, last_cause);
        }
        auto paused = co_await pause_for(pause);
        if (!paused) {
            co_return fail(std::move(paused).error());
        }
    }
}

} // namespace

Task<std::unique_ptr<ByteStream>> connect(Endpoint to, Security security, ConnectOptions options) {
    boost::system::error_code last_cause = boost::asio::error::timed_out;
    auto socket = co_await within(
        options.connect_deadline, connect_socket(to, options.waits_for_listener, last_cause));
    if (!socket && socket.error().code() == ErrorCode::timed_out) {
        co_return cannot_connect(to, last_cause);
    }
    if (!socket) {
        co_return fail(std::move(socket).error());
    }
    const auto* context = std::get_if<TlsContext>(&security);
    if (context == nullptr) {
        co_return make_plain_stream(**std::move(socket));
    }
    auto handshake = tls_connect(**std::move(socket), *context, to.host);
    auto stream = co_await within(options.handshake_deadline, std::move(handshake));
    if (!stream && stream.error().code() == ErrorCode::timed_out) {
        co_return fail(
            std::move(stream).error().during("the TLS handshake with " + to.to_string()));
    }
    co_return std::move(stream);
}

} // namespace wherry::transport
