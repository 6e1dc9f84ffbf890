// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/byte_stream.hpp"
#include "transport/endpoint.hpp"
#include "transport/tls_context.hpp"

#include <memory>
#include <variant>

namespace wherry::transport {

/// Plain TCP, no authentication, no secrecy: `--insecure`.
struct Insecure {};
using Security = std::variant<TlsContext, Insecure>;

struct ConnectOptions {
    /// For name resolution and TCP, over all addresses and retries of a refused connection.
    Duration connect_deadline = std::chrono::seconds{5};
    /// For the whole TLS handshake.
    Duration handshake_deadline = std::chrono::seconds{10};
    /// Whether a refused connection is tried again until then: the peer may be about to listen.
    bool waits_for_listener = true;
};

/// Connects on the calling task's executor. Under TLS the stream is ready when we have accepted
/// the server; the server's verdict on us comes with the first read, as Error{authentication}.
/// Error{unreachable} names the endpoint and the last cause.
Task<std::unique_ptr<ByteStream>>
connect(Endpoint to, Security security, ConnectOptions options = {});

struct ListenOptions {
    /// For the whole TLS handshake of one connection; others are not held up by it.
    Duration handshake_deadline = std::chrono::seconds{10};
    /// Connections that are shaking hands or not yet fetched by accept(). Further ones wait in the
    /// kernel's queue.
    std::size_t pending_limit = 64;
};

/// What became of one incoming connection. A failed one concerns nobody but that peer.
struct Accepted {
    std::string peer; ///< address
    formats::Result<std::unique_ptr<ByteStream>> stream;
};

/// Accepts connections and authenticates them, several at a time. One thread.
class Listener {
public:
    /// Binds (SO_REUSEADDR) and listens; port 0 picks a free one.
    static formats::Result<Listener>
    open(Executor executor, const Endpoint& at, Security security, ListenOptions options = {});
    Listener(Listener&&) noexcept;
    Listener& operator=(Listener&&) noexcept;
    ~Listener();

    /// The next connection that has been authenticated, or has failed to be. The outer error means
    /// that the listener is closed (wrong_state) or the task was cancelled.
    Task<Accepted> accept();
    /// Where it listens, with the real port.
    [[nodiscard]] const Endpoint& local() const noexcept;
    /// Stops listening and drops connections that were not fetched. Idempotent.
    void close();

private:
    struct State;
    explicit Listener(std::shared_ptr<State> state);
    /// Shared with the accepting and handshaking tasks, which end soon after close().
    std::shared_ptr<State> state_;
};

} // namespace wherry::transport
