// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/temp_directory.hpp"
#include "transport/connection.hpp"
#include "transport/pki.hpp"

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

namespace wherry::transport::test {

namespace asio = boost::asio;
using formats::Error;
using formats::ErrorCode;
using formats::Result;
using formats::Status;
using namespace std::chrono_literals;

using wherry::tests::TempDirectory;

/// Starts `work` and keeps its outcome.
template <typename T>
class Running {
public:
    Running(asio::io_context& io, Task<T> work) {
        spawn(
            io.get_executor(),
            std::move(work),
            [this](Result<T> result) { outcome_.emplace(std::move(result)); },
            signal_.slot());
    }
    void cancel() { signal_.emit(asio::cancellation_type::terminal); }
    [[nodiscard]] bool is_done() const { return outcome_.has_value(); }
    Result<T>& outcome() { return outcome_.value(); }

private:
    asio::cancellation_signal signal_;
    std::optional<Result<T>> outcome_;
};

/// Runs `work` to its end, and with it everything else on `io`.
template <typename T>
Result<T> run(asio::io_context& io, Task<T> work) {
    Running<T> running{io, std::move(work)};
    io.restart();
    while (!running.is_done() && io.run_one() > 0) {
    }
    return std::move(running.outcome());
}

/// Runs what is ready now, without waiting for anything.
void run_ready(asio::io_context& io);

/// Certificates for 127.0.0.1 and localhost in a new directory.
class Pki {
public:
    explicit Pki(
        std::initializer_list<std::string> hosts = {"127.0.0.1", "localhost"},
        const PkiOptions& options = {});
    [[nodiscard]] const std::filesystem::path& path() const { return directory_.path(); }
    [[nodiscard]] TlsContext server(TlsOptions options = {}) const;
    [[nodiscard]] TlsContext client(TlsOptions options = {}) const;

private:
    TempDirectory directory_;
};

/// What became of a meeting of two sides on loopback: streams, or what each side was told. The
/// client's error may come from its first read, where TLS 1.3 shows the server's verdict.
struct Meeting {
    std::unique_ptr<ByteStream> server;
    std::unique_ptr<ByteStream> client;
    std::optional<Error> server_error;
    std::optional<Error> client_error;
};
/// Both are expected to accept each other.
Meeting meet(asio::io_context& io, Security server, Security client, std::string host);
/// One of them, at least, is expected to refuse.
Meeting clash(asio::io_context& io, Security server, Security client, std::string host);

/// `count` bytes that repeat after 251 only, so that shifted or swapped pieces show.
std::vector<std::byte> pattern(std::size_t count, std::size_t from = 0);
bool has(const Error& error, std::string_view text);

} // namespace wherry::transport::test
