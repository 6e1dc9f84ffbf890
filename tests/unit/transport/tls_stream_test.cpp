// SPDX-License-Identifier: Apache-2.0
#include "transport/tls_stream.hpp"

#include "tests/unit/transport/support.hpp"
#include "transport/detail/openssl.hpp"
#include "transport/task_group.hpp"

#include <random>

#include <doctest/doctest.h>

#include <sys/socket.h>

namespace wherry::transport::test {
namespace {

using boost::asio::ip::tcp;

struct SocketPair {
    tcp::socket server;
    tcp::socket client;
};

SocketPair connected_sockets(asio::io_context& io) {
    tcp::acceptor acceptor{io, tcp::endpoint{asio::ip::address_v4::loopback(), 0}};
    SocketPair pair{.server = tcp::socket{io}, .client = tcp::socket{io}};
    pair.client.connect(acceptor.local_endpoint());
    acceptor.accept(pair.server);
    return pair;
}

struct StreamPair {
    std::unique_ptr<ByteStream> server;
    std::unique_ptr<ByteStream> client;
};

StreamPair shaken(asio::io_context& io, const Pki& pki, TlsStreamOptions options = {}) {
    auto sockets = connected_sockets(io);
    Running<std::unique_ptr<ByteStream>> accepting{
        io, tls_accept(std::move(sockets.server), pki.server(), options)};
    auto client =
        run(io, tls_connect(std::move(sockets.client), pki.client(), "localhost", options));
    REQUIRE_MESSAGE(client, client.error().text());
    while (!accepting.is_done()) {
        REQUIRE(io.run_one() > 0);
    }
    REQUIRE(accepting.outcome());
    return {.server = *std::move(accepting.outcome()), .client = *std::move(client)};
}

// Sends `bytes` in pieces of random sizes, every third as a gather list.
Task<void> send(ByteStream& stream, std::span<const std::byte> bytes, unsigned seed) {
    std::minstd_rand random{seed};
    for (int turn = 0; !bytes.empty(); ++turn) {
        const auto size = std::min<std::size_t>(bytes.size(), random() % 70'000);
        const auto piece = bytes.first(size);
        const std::array parts{
            piece.first(size / 7),
            piece.subspan(size / 7, size / 3),
            piece.subspan(size / 7 + size / 3)};
        auto work = turn % 3 == 0 ? stream.write_all(Gather{parts}) : stream.write_all(piece);
        auto written = co_await std::move(work);
        if (!written) {
            co_return written;
        }
        bytes = bytes.subspan(size);
    }
    co_return Status{};
}

Task<void> receive(ByteStream& stream, std::span<std::byte> into, unsigned seed) {
    std::minstd_rand random{seed};
    while (!into.empty()) {
        const auto size = std::min<std::size_t>(into.size(), 1 + random() % 90'000);
        auto got = co_await stream.read_exactly(into.first(size));
        if (!got) {
            co_return got;
        }
        into = into.subspan(size);
    }
    co_return Status{};
}

Task<std::size_t> read_piece(ByteStream& stream, std::span<std::byte> into) {
    co_return co_await stream.read_some(into);
}

// Until the kernel takes no more.
Task<void> write_forever(ByteStream& stream) {
    const std::vector<std::byte> block(std::size_t{1} << 20U);
    for (;;) {
        auto written = co_await stream.write_all(block);
        if (!written) {
            co_return written;
        }
    }
}

void check_both_ways(asio::io_context& io, StreamPair& pair, std::size_t size) {
    const auto forth = pattern(size);
    const auto back = pattern(size, 100);
    std::vector<std::byte> at_server(size);
    std::vector<std::byte> at_client(size);
    TaskGroup group{io.get_executor()};
    group.start(send(*pair.client, forth, 1));
    group.start(send(*pair.server, back, 2));
    group.start(receive(*pair.server, at_server, 3));
    group.start(receive(*pair.client, at_client, 4));
    const auto joined = run(io, group.join());
    REQUIRE_MESSAGE(joined, joined.error().text());
    CHECK(at_server == forth);
    CHECK(at_client == back);
}

TEST_SUITE("transport.tls_stream") {

    TEST_CASE("bytes of any sizes cross in both directions at once") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        check_both_ways(io, pair, 9'000'001);
        CHECK(pair.server->peer().ends_with("(CN=127.0.0.1)"));
        CHECK(pair.client->peer().starts_with("127.0.0.1:"));
    }

    TEST_CASE("keys are renewed under way without a trace in the data") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki, {.rekey_after_bytes = 100'000});
        check_both_ways(io, pair, 3'000'000);
    }

    TEST_CASE("a stream goes on on another thread, with what it had received before") {
        asio::io_context io;
        asio::io_context other;
        const Pki pki;
        auto streams = shaken(io, pki);
        std::vector<std::byte> bytes(50'000);
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            bytes[i] = static_cast<std::byte>(i * 7);
        }
        REQUIRE(run(io, streams.server->write_all(bytes)));
        std::vector<std::byte> got(bytes.size());
        REQUIRE(run(io, streams.client->read_exactly(std::span{got}.first(1))));
        REQUIRE(streams.client->rebind(other.get_executor()));
        CHECK(streams.client->executor() == Executor{other.get_executor()});
        REQUIRE(run(other, streams.client->read_exactly(std::span{got}.subspan(1))));
        CHECK(got == bytes);
        // And it waits there for what is yet to come.
        Running<void> reading{other, streams.client->read_exactly(got)};
        run_ready(other);
        CHECK(!reading.is_done());
        REQUIRE(run(io, streams.server->write_all(bytes)));
        while (!reading.is_done()) {
            REQUIRE(other.run_one() > 0);
        }
        CHECK(reading.outcome());
        REQUIRE(run(other, streams.client->write_all(bytes)));
        REQUIRE(run(io, streams.server->read_exactly(got)));
        CHECK(got == bytes);
    }

    TEST_CASE("an orderly end reads as 0 and ends well on both sides") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        Running<void> leaving{io, pair.client->shut_down()};
        std::array<std::byte, 1> byte{};
        const auto end = run(io, read_piece(*pair.server, byte));
        REQUIRE(end);
        CHECK(*end == 0);
        CHECK(run(io, pair.server->shut_down()));
        run_ready(io);
        REQUIRE(leaving.is_done());
        CHECK(leaving.outcome());
    }

    TEST_CASE("a stream that stops without close_notify is lost, not ended") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        const auto bytes = pattern(1000);
        REQUIRE(run(io, pair.client->write_all(bytes)));
        pair.client->close();
        std::array<std::byte, 1000> got{};
        CHECK(run(io, pair.server->read_exactly(got)));
        const auto end = run(io, read_piece(*pair.server, got));
        REQUIRE(!end);
        CHECK(end.error().code() == ErrorCode::connection_lost);
        CHECK(has(end.error(), "ended in the middle"));
        CHECK(has(end.error(), "127.0.0.1:"));
    }

    TEST_CASE("an end in the middle of what was expected is a loss") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        const auto bytes = pattern(10);
        REQUIRE(run(io, pair.client->write_all(bytes)));
        Running<void> leaving{io, pair.client->shut_down()};
        std::array<std::byte, 11> got{};
        const auto read = run(io, pair.server->read_exactly(got));
        REQUIRE(!read);
        CHECK(read.error().code() == ErrorCode::connection_lost);
        pair.server->close();
        while (!leaving.is_done()) {
            REQUIRE(io.run_one() > 0);
        }
    }

    TEST_CASE("a waiting read can be cancelled, and nothing is lost by it") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        std::array<std::byte, 10> got{};
        Running<std::size_t> reading{io, read_piece(*pair.server, got)};
        run_ready(io);
        reading.cancel();
        run_ready(io);
        REQUIRE(reading.is_done());
        REQUIRE(!reading.outcome());
        CHECK(reading.outcome().error().code() == ErrorCode::cancelled);
        const auto bytes = pattern(10);
        REQUIRE(run(io, pair.client->write_all(bytes)));
        CHECK(run(io, pair.server->read_exactly(got)));
        CHECK(std::ranges::equal(got, bytes));
    }

    TEST_CASE("a write that the peer does not take can be cancelled and does not go on later") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        Running<void> writing{io, write_forever(*pair.client)};
        run_ready(io);
        REQUIRE(!writing.is_done());
        writing.cancel();
        run_ready(io);
        REQUIRE(writing.is_done());
        CHECK(writing.outcome().error().code() == ErrorCode::cancelled);
        const auto bytes = pattern(10);
        const auto later = run(io, pair.client->write_all(bytes));
        CHECK(!later);
    }

    TEST_CASE("closing the stream wakes its reader") {
        asio::io_context io;
        const Pki pki;
        auto pair = shaken(io, pki);
        std::array<std::byte, 10> got{};
        Running<std::size_t> reading{io, read_piece(*pair.server, got)};
        run_ready(io);
        pair.server->close();
        run_ready(io);
        REQUIRE(reading.is_done());
        REQUIRE(!reading.outcome());
        CHECK(reading.outcome().error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("a handshake can be cancelled") {
        asio::io_context io;
        const Pki pki;
        auto sockets = connected_sockets(io);
        Running<std::unique_ptr<ByteStream>> accepting{
            io, tls_accept(std::move(sockets.server), pki.server())};
        run_ready(io);
        REQUIRE(!accepting.is_done());
        accepting.cancel();
        run_ready(io);
        REQUIRE(accepting.is_done());
        REQUIRE(!accepting.outcome());
        CHECK(accepting.outcome().error().code() == ErrorCode::cancelled);
    }

    TEST_CASE("a byte changed on the way is noticed") {
        asio::io_context io;
        const Pki pki;
        auto sockets = connected_sockets(io);
        const int raw = ::dup(sockets.client.native_handle());
        Running<std::unique_ptr<ByteStream>> accepting{
            io, tls_accept(std::move(sockets.server), pki.server())};
        auto client = run(io, tls_connect(std::move(sockets.client), pki.client(), "localhost"));
        REQUIRE(client);
        while (!accepting.is_done()) {
            REQUIRE(io.run_one() > 0);
        }
        REQUIRE(accepting.outcome());
        auto server = *std::move(accepting.outcome());
        // A record of application data that no key of this connection made.
        std::array<unsigned char, 5 + 32> forged{23, 3, 3, 0, 32};
        REQUIRE(::send(raw, forged.data(), forged.size(), 0) == std::ssize(forged));
        ::close(raw);
        std::array<std::byte, 10> got{};
        const auto read = run(io, read_piece(*server, got));
        REQUIRE(!read);
        CHECK(read.error().code() == ErrorCode::corrupted);
        CHECK(has(read.error(), "changed on the way"));
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
