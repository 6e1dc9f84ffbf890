// SPDX-License-Identifier: Apache-2.0
#include "tests/support/etcd_server.hpp"

#include "transport/pki.hpp"

#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <fmt/format.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace wherry::tests {

namespace {

constexpr const char* program = "/usr/bin/etcd";

} // namespace

std::uint16_t free_port() {
    using boost::asio::ip::tcp;
    boost::asio::io_context io;
    const tcp::acceptor acceptor{io, {boost::asio::ip::address_v4::loopback(), 0}};
    return acceptor.local_endpoint().port();
}

bool EtcdServer::is_installed() {
    return ::access(program, X_OK) == 0;
}

EtcdServer::EtcdServer() : EtcdServer{std::filesystem::path{}} {}

EtcdServer::EtcdServer(std::filesystem::path tls_directory)
    : tls_directory_{std::move(tls_directory)},
      client_port_{free_port()},
      peer_port_{free_port()} {
    start();
}

EtcdServer::~EtcdServer() {
    kill();
}

std::string EtcdServer::endpoint() const {
    return fmt::format("127.0.0.1:{}", client_port_);
}

void EtcdServer::start() {
    const bool has_tls = !tls_directory_.empty();
    const auto client = fmt::format("{}://127.0.0.1:{}", has_tls ? "https" : "http", client_port_);
    const auto peer = fmt::format("http://127.0.0.1:{}", peer_port_);
    std::vector<std::string> words{
        program,
        "--data-dir=" + (data_.path() / "data").string(),
        "--listen-client-urls=" + client,
        "--advertise-client-urls=" + client,
        "--listen-peer-urls=" + peer,
        "--initial-advertise-peer-urls=" + peer,
        "--initial-cluster=default=" + peer};
    if (has_tls) {
        const auto file = [this](const char* name) {
            return (tls_directory_ / name).string();
        };
        words.insert(
            words.end(),
            {"--client-cert-auth",
             "--trusted-ca-file=" + file(transport::ca_cert_file),
             "--cert-file=" + file(transport::server_cert_file),
             "--key-file=" + file(transport::server_key_file)});
    }
    std::vector<char*> arguments;
    for (auto& word : words) {
        arguments.push_back(word.data());
    }
    arguments.push_back(nullptr);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    process_ = ::fork();
    if (process_ == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::dup2(ends[1], STDERR_FILENO);
        ::execv(program, arguments.data());
        ::_exit(127);
    }
    ::close(ends[1]);
    log_ = ends[0];
    std::string log;
    while (log.find("ready to serve") == std::string::npos) {
        char piece[512];
        const auto got = ::read(log_, piece, sizeof piece);
        REQUIRE_MESSAGE(got > 0, log);
        log.append(piece, static_cast<std::size_t>(got));
    }
}

void EtcdServer::kill() {
    if (process_ < 0) {
        return;
    }
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    ::close(log_);
    process_ = -1;
}

void EtcdServer::restart() {
    kill();
    start();
}

void EtcdServer::pause() {
    ::kill(process_, SIGSTOP);
    // Until it has stopped.
    ::waitpid(process_, nullptr, WUNTRACED);
}

void EtcdServer::resume() {
    ::kill(process_, SIGCONT);
}

} // namespace wherry::tests
