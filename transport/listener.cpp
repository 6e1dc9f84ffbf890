// SPDX-License-Identifier: Apache-2.0
#include "transport/connection.hpp"
#include "transport/detail/socket.hpp"
#include "transport/plain_stream.hpp"
#include "transport/task_group.hpp"
#include "transport/tls_stream.hpp"

#include <deque>

#include <boost/asio/ip/tcp.hpp>
#include <fmt/format.h>

namespace wherry::transport {

using boost::asio::ip::tcp;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {
// After EMFILE and its like: time for connections to go.
constexpr std::chrono::milliseconds pause_after_failure{100};
} // namespace

struct Listener::State {
    State(const Executor& executor, Security how, ListenOptions with)
        : acceptor{executor},
          security{std::move(how)},
          options{with},
          changed{executor},
          tasks{executor} {}

    static Task<void> accept_all(std::shared_ptr<State> state);
    static Task<void> admit(std::shared_ptr<State> state, tcp::socket socket);
    static Task<std::unique_ptr<ByteStream>> secure(State& state, tcp::socket socket);
    void deliver(std::string peer, Result<std::unique_ptr<ByteStream>> stream);
    void close();

    tcp::acceptor acceptor;
    Security security;
    ListenOptions options;
    Endpoint local;
    std::deque<Accepted> ready;
    std::size_t shaking = 0; ///< connections whose handshake is under way
    Notification changed;
    TaskGroup tasks;
    bool is_closed = false;
};

void Listener::State::deliver(std::string peer, Result<std::unique_ptr<ByteStream>> stream) {
    if (!is_closed) {
        ready.push_back(Accepted{.peer = std::move(peer), .stream = std::move(stream)});
        changed.notify_all();
    }
}

Task<void> Listener::State::accept_all(std::shared_ptr<State> state) {
    while (!state->is_closed) {
        if (state->ready.size() + state->shaking >= state->options.pending_limit) {
            auto waited = co_await state->changed.wait();
            if (!waited) {
                co_return waited;
            }
            continue;
        }
        auto [error, socket] = co_await state->acceptor.async_accept(as_result);
        auto alive = co_await check_cancelled();
        if (!alive || state->is_closed) {
            co_return alive;
        }
        if (!error) {
            ++state->shaking;
            state->tasks.start(admit(state, std::move(socket)));
            continue;
        }
        state->deliver(
            "nobody", fail(formats::system_error(error.value(), "cannot accept a connection")));
        auto paused = co_await pause_for(pause_after_failure);
        if (!paused) {
            co_return paused;
        }
    }
    co_return Status{};
}

Task<void> Listener::State::admit(std::shared_ptr<State> state, tcp::socket socket) {
    auto peer = detail::peer_address(socket);
    auto stream = co_await secure(*state, std::move(socket));
    if (!stream && stream.error().code() == ErrorCode::timed_out) {
        stream = fail(std::move(stream).error().during("the TLS handshake with " + peer));
    }
    --state->shaking;
    state->deliver(std::move(peer), std::move(stream));
    co_return Status{};
}

Task<std::unique_ptr<ByteStream>> Listener::State::secure(State& state, tcp::socket socket) {
    const auto* context = std::get_if<TlsContext>(&state.security);
    if (context == nullptr) {
        co_return make_plain_stream(std::move(socket));
    }
    auto handshake = tls_accept(std::move(socket), *context);
    co_return co_await within(state.options.handshake_deadline, std::move(handshake));
}

void Listener::State::close() {
    is_closed = true;
    boost::system::error_code closed_already;
    acceptor.close(closed_already);
    tasks.cancel();
    ready.clear();
    changed.notify_all();
}

Listener::Listener(std::shared_ptr<State> state) : state_{std::move(state)} {}
Listener::Listener(Listener&&) noexcept = default;

Listener& Listener::operator=(Listener&& other) noexcept {
    if (this != &other) {
        close();
        state_ = std::move(other.state_);
    }
    return *this;
}

Listener::~Listener() {
    close();
}

Result<Listener>
Listener::open(Executor executor, const Endpoint& at, Security security, ListenOptions options) {
    const auto refuse = [&](const boost::system::error_code& error) {
        return fail(formats::system_error(error.value(), "cannot listen on " + at.to_string()));
    };
    boost::system::error_code error;
    tcp::resolver resolver{executor};
    const auto found = resolver.resolve(
        at.host,
        std::to_string(at.port),
        tcp::resolver::passive | tcp::resolver::numeric_service,
        error);
    if (error || found.empty()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "cannot listen on {}: '{}' is no address of this host ({})",
                at.to_string(),
                at.host,
                error.message()));
    }
    const auto address = found.begin()->endpoint();
    auto state = std::make_shared<State>(executor, std::move(security), options);
    auto& acceptor = state->acceptor;
    acceptor.open(address.protocol(), error);
    if (!error) {
        acceptor.set_option(tcp::acceptor::reuse_address{true}, error);
    }
    if (!error) {
        acceptor.bind(address, error);
    }
    if (!error) {
        acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
    }
    if (error) {
        return refuse(error);
    }
    state->local = detail::endpoint_of(acceptor.local_endpoint());
    state->tasks.start(State::accept_all(state));
    return Listener{std::move(state)};
}

Task<Accepted> Listener::accept() {
    auto state = state_;
    while (state->ready.empty()) {
        if (state->is_closed) {
            co_return fail(ErrorCode::wrong_state, "the listener is closed");
        }
        auto waited = co_await state->changed.wait();
        if (!waited) {
            co_return fail(std::move(waited).error());
        }
    }
    auto first = std::move(state->ready.front());
    state->ready.pop_front();
    state->changed.notify_all();
    co_return std::move(first);
}

const Endpoint& Listener::local() const noexcept {
    return state_->local;
}

void Listener::close() {
    if (state_) {
        state_->close();
    }
}

} // namespace wherry::transport
