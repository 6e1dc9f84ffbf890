// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/transport/support.hpp"

#include <array>

#include <doctest/doctest.h>

namespace wherry::transport::test {

void run_ready(asio::io_context& io) {
    io.restart();
    while (io.poll() > 0) {
    }
}

Pki::Pki(std::initializer_list<std::string> hosts, const PkiOptions& options) {
    const std::vector<std::string> names{hosts};
    auto made = make_pki(path(), names, options);
    REQUIRE_MESSAGE(made.has_value(), made.error().text());
}

TlsContext Pki::server(TlsOptions options) const {
    auto context = TlsContext::for_server(path(), options);
    REQUIRE_MESSAGE(context.has_value(), context.error().text());
    return *context;
}

TlsContext Pki::client(TlsOptions options) const {
    auto context = TlsContext::for_client(path(), options);
    REQUIRE_MESSAGE(context.has_value(), context.error().text());
    return *context;
}

namespace {

enum class Until { connected, verdict };

Task<void> read_verdict(ByteStream& stream) {
    std::array<std::byte, 1> byte{};
    auto got = co_await stream.read_some(byte);
    co_return got ? Status{} : formats::fail(std::move(got).error());
}

Task<std::unique_ptr<ByteStream>> fetch(Listener& listener, Until until) {
    auto accepted = co_await listener.accept();
    if (!accepted) {
        co_return formats::fail(std::move(accepted).error());
    }
    auto stream = std::move(accepted->stream);
    if (stream && until == Until::verdict) {
        auto verdict = co_await read_verdict(**stream);
        (*stream)->close();
        if (!verdict) {
            co_return formats::fail(std::move(verdict).error());
        }
    }
    co_return std::move(stream);
}

Task<void> say_hello(ByteStream& stream) {
    const auto hello = pattern(64);
    co_return co_await stream.write_all(hello);
}

template <typename T>
std::optional<Error> error_of(const Result<T>& result) {
    return result ? std::nullopt : std::optional{result.error()};
}

Meeting bring_together(
    asio::io_context& io, Security server, Security client, std::string host, Until until) {
    auto listener = Listener::open(io.get_executor(), {"127.0.0.1", 0}, std::move(server), {});
    REQUIRE_MESSAGE(listener.has_value(), listener.error().text());
    Running<std::unique_ptr<ByteStream>> accepting{io, fetch(*listener, until)};
    const Endpoint to{.host = std::move(host), .port = listener->local().port};
    auto connected = run(io, connect(to, std::move(client)));
    Meeting meeting{.server = {}, .client = {}, .server_error = {}, .client_error = {}};
    meeting.client_error = error_of(connected);
    if (connected) {
        meeting.client = *std::move(connected);
    }
    if (meeting.client && until == Until::verdict) {
        meeting.client_error = error_of(run(io, say_hello(*meeting.client)));
    }
    io.restart();
    while (!accepting.is_done()) {
        REQUIRE(io.run_one() > 0);
    }
    meeting.server_error = error_of(accepting.outcome());
    if (accepting.outcome()) {
        meeting.server = *std::move(accepting.outcome());
    }
    if (meeting.client && until == Until::verdict && !meeting.client_error) {
        meeting.client_error = error_of(run(io, read_verdict(*meeting.client)));
    }
    return meeting;
}

} // namespace

Meeting meet(asio::io_context& io, Security server, Security client, std::string host) {
    auto met =
        bring_together(io, std::move(server), std::move(client), std::move(host), Until::connected);
    const std::string none = "accepted";
    REQUIRE_MESSAGE(met.server, (met.server_error ? met.server_error->text() : none));
    REQUIRE_MESSAGE(met.client, (met.client_error ? met.client_error->text() : none));
    return met;
}

Meeting clash(asio::io_context& io, Security server, Security client, std::string host) {
    auto met =
        bring_together(io, std::move(server), std::move(client), std::move(host), Until::verdict);
    REQUIRE(met.server_error);
    REQUIRE(met.client_error);
    return met;
}

std::vector<std::byte> pattern(std::size_t count, std::size_t from) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<std::byte>((from + i) % 251);
    }
    return bytes;
}

bool has(const Error& error, std::string_view text) {
    return error.text().find(text) != std::string::npos;
}

} // namespace wherry::transport::test
