// SPDX-License-Identifier: Apache-2.0
#include "transport/connection.hpp"

#include "tests/unit/transport/support.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <doctest/doctest.h>

#include <sys/socket.h>

namespace wherry::transport::test {
namespace {

using boost::asio::ip::tcp;

Task<Accepted> next(Listener& listener) {
    co_return co_await listener.accept();
}

// A port that was free a moment ago.
std::uint16_t free_port(asio::io_context& io) {
    const tcp::acceptor acceptor{io, tcp::endpoint{asio::ip::address_v4::loopback(), 0}};
    return acceptor.local_endpoint().port();
}

Error refusal_of_garbage(std::span<const unsigned char> garbage) {
    asio::io_context io;
    const Pki pki;
    auto listener = Listener::open(io.get_executor(), {"127.0.0.1", 0}, pki.server());
    REQUIRE(listener);
    tcp::socket socket{io};
    socket.connect({asio::ip::address_v4::loopback(), listener->local().port});
    REQUIRE(
        ::send(socket.native_handle(), garbage.data(), garbage.size(), 0) == std::ssize(garbage));
    socket.shutdown(tcp::socket::shutdown_send);
    auto accepted = run(io, next(*listener));
    REQUIRE(accepted);
    REQUIRE(!accepted->stream);
    return accepted->stream.error();
}

TEST_SUITE("transport.connection") {

    TEST_CASE("nobody listens: unreachable, named with the endpoint and the cause") {
        asio::io_context io;
        const Endpoint to{.host = "127.0.0.1", .port = free_port(io)};
        const auto stream = run(io, connect(to, Insecure{}, {.connect_deadline = 30ms}));
        REQUIRE(!stream);
        CHECK(stream.error().code() == ErrorCode::unreachable);
        CHECK(has(stream.error(), to.to_string()));
        CHECK(has(stream.error(), "refused"));
    }

    TEST_CASE("a destination that starts to listen a little later is still reached") {
        asio::io_context io;
        const Endpoint to{.host = "127.0.0.1", .port = free_port(io)};
        Running<std::unique_ptr<ByteStream>> connecting{
            io, connect(to, Insecure{}, {.connect_deadline = 1min})};
        run_ready(io); // the first attempt is refused now
        REQUIRE(!connecting.is_done());
        auto listener = Listener::open(io.get_executor(), to, Insecure{});
        REQUIRE(listener);
        const auto accepted = run(io, next(*listener));
        REQUIRE(accepted);
        CHECK(accepted->stream);
        while (!connecting.is_done()) {
            REQUIRE(io.run_one() > 0);
        }
        CHECK(connecting.outcome());
    }

    TEST_CASE("a name that does not exist is named") {
        asio::io_context io;
        const auto stream = run(io, connect({"no-such-host.invalid", 1}, Insecure{}));
        REQUIRE(!stream);
        CHECK(stream.error().code() == ErrorCode::unreachable);
        CHECK(has(stream.error(), "no-such-host.invalid"));
    }

    TEST_CASE("connecting can be cancelled") {
        asio::io_context io;
        const Endpoint to{.host = "127.0.0.1", .port = free_port(io)};
        Running<std::unique_ptr<ByteStream>> connecting{
            io, connect(to, Insecure{}, {.connect_deadline = 1h})};
        run_ready(io);
        connecting.cancel();
        run_ready(io);
        REQUIRE(connecting.is_done());
        REQUIRE(!connecting.outcome());
        CHECK(connecting.outcome().error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("a peer that never finishes its handshake is dropped, and holds up nobody") {
        asio::io_context io;
        const Pki pki;
        auto listener = Listener::open(
            io.get_executor(), {"127.0.0.1", 0}, pki.server(), {.handshake_deadline = 200ms});
        REQUIRE(listener);
        tcp::socket silent{io};
        silent.connect({asio::ip::address_v4::loopback(), listener->local().port});
        const std::array<unsigned char, 3> slow{22, 3, 1};
        REQUIRE(::send(silent.native_handle(), slow.data(), slow.size(), 0) == std::ssize(slow));

        Running<std::unique_ptr<ByteStream>> connecting{
            io, connect({"127.0.0.1", listener->local().port}, pki.client())};
        const auto first = run(io, next(*listener));
        REQUIRE(first);
        CHECK(first->stream);
        const auto second = run(io, next(*listener));
        REQUIRE(second);
        REQUIRE(!second->stream);
        CHECK(second->stream.error().code() == ErrorCode::timed_out);
        CHECK(has(second->stream.error(), "TLS handshake"));
        CHECK(has(second->stream.error(), second->peer));
    }

    TEST_CASE("a server that never answers is given up after the handshake deadline") {
        asio::io_context io;
        const Pki pki;
        const tcp::acceptor mute{io, tcp::endpoint{asio::ip::address_v4::loopback(), 0}};
        const Endpoint to{.host = "127.0.0.1", .port = mute.local_endpoint().port()};
        const auto stream = run(io, connect(to, pki.client(), {.handshake_deadline = 50ms}));
        REQUIRE(!stream);
        CHECK(stream.error().code() == ErrorCode::timed_out);
        CHECK(has(stream.error(), "TLS handshake with " + to.to_string()));
    }

    TEST_CASE("garbage is told apart from TLS, and a truncated handshake from both") {
        const std::array<unsigned char, 12> garbage{
            'G', 'E', 'T', ' ', '/', ' ', 'H', 'T', 'T', 'P'};
        const auto foreign = refusal_of_garbage(garbage);
        CHECK(foreign.code() == ErrorCode::protocol);
        CHECK(has(foreign, "did not speak TLS (its first bytes: 47 45 54 20"));
        const std::array<unsigned char, 9> truncated{22, 3, 1, 0, 100, 1, 0, 0, 96};
        const auto cut = refusal_of_garbage(truncated);
        CHECK(cut.code() == ErrorCode::connection_lost);
        CHECK(has(cut, "closed the connection during the TLS handshake"));
        const std::array<unsigned char, 9> huge{22, 3, 1, 0xFF, 0xFF, 1, 0, 0, 96};
        CHECK(refusal_of_garbage(huge).code() == ErrorCode::protocol);
    }

    TEST_CASE("a port in use is refused, naming it") {
        asio::io_context io;
        auto first = Listener::open(io.get_executor(), {"127.0.0.1", 0}, Insecure{});
        REQUIRE(first);
        CHECK(first->local().port != 0);
        const auto second = Listener::open(io.get_executor(), first->local(), Insecure{});
        REQUIRE(!second);
        CHECK(has(second.error(), first->local().to_string()));
    }

    TEST_CASE("closing a listener ends the wait for connections") {
        asio::io_context io;
        auto listener = Listener::open(io.get_executor(), {"127.0.0.1", 0}, Insecure{});
        REQUIRE(listener);
        Running<Accepted> accepting{io, next(*listener)};
        run_ready(io);
        listener->close();
        run_ready(io);
        REQUIRE(accepting.is_done());
        REQUIRE(!accepting.outcome());
        CHECK(accepting.outcome().error().code() == ErrorCode::wrong_state);
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
