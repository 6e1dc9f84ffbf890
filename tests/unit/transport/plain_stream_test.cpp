// SPDX-License-Identifier: Apache-2.0
#include "transport/plain_stream.hpp"

#include "tests/unit/transport/support.hpp"
#include "transport/task_group.hpp"

#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

Task<std::size_t> read_piece(ByteStream& stream, std::span<std::byte> into) {
    co_return co_await stream.read_some(into);
}

TEST_SUITE("transport.plain_stream") {

    TEST_CASE("a gather list of many parts arrives whole, in order") {
        asio::io_context io;
        auto met = meet(io, Insecure{}, Insecure{}, "127.0.0.1");
        const auto bytes = pattern(8'000'000);
        std::vector<std::span<const std::byte>> parts;
        for (std::size_t at = 0; at < bytes.size(); at += 9999) {
            parts.push_back(
                std::span{bytes}.subspan(at, std::min<std::size_t>(9999, bytes.size() - at)));
            parts.emplace_back();
        }
        std::vector<std::byte> got(bytes.size());
        TaskGroup group{io.get_executor()};
        group.start(met.client->write_all(Gather{parts}));
        group.start(met.server->read_exactly(got));
        REQUIRE(run(io, group.join()));
        CHECK(got == bytes);
    }

    TEST_CASE("an orderly end reads as 0") {
        asio::io_context io;
        auto met = meet(io, Insecure{}, Insecure{}, "127.0.0.1");
        Running<void> leaving{io, met.client->shut_down()};
        std::array<std::byte, 1> byte{};
        const auto end = run(io, read_piece(*met.server, byte));
        REQUIRE(end);
        CHECK(*end == 0);
        CHECK(run(io, met.server->shut_down()));
        run_ready(io);
        REQUIRE(leaving.is_done());
        CHECK(leaving.outcome());
    }

    TEST_CASE("a plain client at a TLS server: both are told") {
        asio::io_context io;
        const Pki pki;
        const auto met = clash(io, pki.server(), Insecure{}, "127.0.0.1");
        CHECK(met.server_error->code() == ErrorCode::protocol);
        CHECK(has(*met.server_error, "did not speak TLS"));
        CHECK(has(*met.server_error, "--insecure"));
        CHECK(met.client_error->code() == ErrorCode::protocol);
        CHECK(has(*met.client_error, "speaks TLS, but this side was started with --insecure"));
    }

    TEST_CASE("a TLS client at a plain server: both are told") {
        asio::io_context io;
        const Pki pki;
        const auto met = clash(io, Insecure{}, pki.client(), "127.0.0.1");
        CHECK(met.server_error->code() == ErrorCode::protocol);
        CHECK(has(*met.server_error, "speaks TLS, but this side was started with --insecure"));
        CHECK(has(*met.client_error, "--insecure"));
    }

    TEST_CASE("the peer's name says that it was not authenticated") {
        asio::io_context io;
        const auto met = meet(io, Insecure{}, Insecure{}, "127.0.0.1");
        CHECK(met.server->peer().ends_with("(not authenticated)"));
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
