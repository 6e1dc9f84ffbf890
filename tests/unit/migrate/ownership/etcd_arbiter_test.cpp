// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/etcd_arbiter.hpp"

#include "tests/support/etcd_server.hpp"
#include "tests/unit/migrate/ownership/arbiter_races.hpp"
#include "tests/unit/migrate/ownership/journal_support.hpp"
#include "transport/http_connection.hpp"
#include "transport/pki.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace std::chrono_literals;
using formats::ErrorCode;
using migrate::Arbiter;
using migrate::ArbiterRecord;
using migrate::Asker;
using migrate::Epoch;
using migrate::RecordKind;
using tests::EtcdServer;
using tests::some_vm;

namespace {

constexpr ArbiterRecord offered{RecordKind::offered, Epoch{1}};
constexpr ArbiterRecord committed{RecordKind::committed, Epoch{1}};
constexpr ArbiterRecord reclaimed{RecordKind::reclaimed, Epoch{2}};
/// Long enough for a machine that is busy; where nothing answers it is not waited for in full.
constexpr auto patience = 30s;
/// For what never answers.
constexpr auto impatience = 200ms;

bool is_here(std::string_view test) {
    if (!EtcdServer::is_installed()) {
        fmt::print("SKIPPED: etcd arbiter, {}: there is no /usr/bin/etcd (etcd-server)\n", test);
        return false;
    }
    return true;
}

std::unique_ptr<Arbiter> arbiter_at(const std::string& endpoints) {
    auto made = migrate::arbiter_from("etcd:" + endpoints);
    REQUIRE_MESSAGE(made.has_value(), made.error().text());
    return std::move(*made);
}

bool is_done(Arbiter& arbiter, const ArbiterRecord& wanted, Asker asker) {
    const auto outcome = arbiter.request(some_vm(), wanted, asker, patience);
    REQUIRE_MESSAGE(outcome.has_value(), outcome.error().text());
    return outcome->is_done;
}

std::optional<ArbiterRecord> read(Arbiter& arbiter) {
    const auto found = arbiter.read(some_vm(), patience);
    REQUIRE_MESSAGE(found.has_value(), found.error().text());
    return *found;
}

/// Gives every connection the same answer, or takes it and says nothing.
class CannedServer {
public:
    explicit CannedServer(std::string answer) : answer_{std::move(answer)} {
        thread_ = std::jthread{[this] {
            serve();
        }};
    }
    ~CannedServer() {
        is_over_ = true;
        boost::asio::io_context io;
        boost::asio::ip::tcp::socket last{io};
        last.connect(acceptor_.local_endpoint());
        thread_.join();
    }
    [[nodiscard]] std::string endpoint() const {
        return fmt::format("127.0.0.1:{}", acceptor_.local_endpoint().port());
    }

private:
    void serve() {
        std::vector<boost::asio::ip::tcp::socket> silent;
        for (;;) {
            auto socket = acceptor_.accept();
            if (is_over_) {
                return;
            }
            boost::system::error_code gone;
            boost::asio::streambuf request;
            if (!answer_.empty()) {
                boost::asio::read_until(socket, request, "\r\n\r\n", gone);
                boost::asio::write(socket, boost::asio::buffer(answer_), gone);
            } else {
                silent.push_back(std::move(socket));
            }
        }
    }
    std::string answer_;
    std::atomic<bool> is_over_ = false;
    boost::asio::io_context io_;
    boost::asio::ip::tcp::acceptor acceptor_{io_, {boost::asio::ip::address_v4::loopback(), 0}};
    std::jthread thread_;
};

std::string answer_with(std::string_view status, std::string_view body) {
    return fmt::format(
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        status,
        body.size(),
        body);
}

transport::Task<transport::HttpAnswer> put_at(transport::Endpoint to, std::string body) {
    auto connection = co_await transport::HttpConnection::open(to, transport::Insecure{});
    if (!connection) {
        co_return formats::fail(std::move(connection).error());
    }
    co_return co_await (*connection)->post({.target = "/v3/kv/put", .body = std::move(body)});
}

} // namespace

TEST_CASE("etcd arbiter: an epoch is decided once, also over kill -9 and restart") {
    if (!is_here("decided once")) {
        return;
    }
    EtcdServer server;
    const auto source = arbiter_at(server.endpoint());
    const auto destination = arbiter_at(server.endpoint());
    CHECK(read(*source) == std::nullopt);
    CHECK(is_done(*source, offered, Asker::source));
    server.restart();
    CHECK(read(*destination) == offered);
    CHECK(is_done(*destination, committed, Asker::destination));
    CHECK(is_done(*destination, committed, Asker::destination)); // again is done
    server.restart();
    const auto late = source->request(some_vm(), reclaimed, Asker::source, patience);
    REQUIRE(late.has_value());
    CHECK_FALSE(late->is_done);
    CHECK(late->now == committed);
    CHECK(is_done(*destination, reclaimed, Asker::destination));
    CHECK(read(*source) == reclaimed);
}

TEST_CASE("etcd arbiter: many threads, one winner; any requests, by the rule") {
    if (!is_here("races")) {
        return;
    }
    const EtcdServer server;
    const auto make = [&] {
        return arbiter_at(server.endpoint());
    };
    tests::race_for_epochs(make, 30);
    tests::race_by_processes(make, 5);
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        tests::follow_the_rule(make, seed, 40);
    }
}

TEST_CASE("etcd arbiter: nobody there, or stopped, says nothing about the record") {
    if (!is_here("unknown")) {
        return;
    }
    EtcdServer server;
    const auto arbiter = arbiter_at(server.endpoint());
    REQUIRE(is_done(*arbiter, offered, Asker::source));
    server.pause();
    const auto stopped = arbiter->request(some_vm(), committed, Asker::destination, impatience);
    REQUIRE(!stopped.has_value());
    CHECK(stopped.error().code() == ErrorCode::timed_out);
    CHECK(!arbiter->read(some_vm(), impatience).has_value());
    server.resume();
    CHECK(is_done(*arbiter, committed, Asker::destination));
    server.kill();
    const auto dead = arbiter->read(some_vm(), patience);
    REQUIRE(!dead.has_value());
    CHECK(dead.error().code() == ErrorCode::unreachable);
    CHECK(dead.error().text().starts_with("arbiter etcd:" + server.endpoint() + ": "));
}

TEST_CASE("etcd arbiter: the next endpoint is tried where one is dead or silent") {
    if (!is_here("endpoints")) {
        return;
    }
    const EtcdServer server;
    const CannedServer silent{""};
    const CannedServer leaderless{
        answer_with("503 Service Unavailable", R"({"error":"etcdserver: no leader"})")};
    const auto arbiter = arbiter_at(fmt::format(
        "127.0.0.1:{},{},{}", tests::free_port(), leaderless.endpoint(), server.endpoint()));
    CHECK(is_done(*arbiter, offered, Asker::source));
    const auto patient = arbiter_at(silent.endpoint() + "," + server.endpoint());
    const auto found = patient->read(some_vm(), 2s);
    REQUIRE_MESSAGE(found.has_value(), found.error().text());
    CHECK(*found == offered);
}

TEST_CASE("etcd arbiter: by TLS, to who has proven who it is, and for who has") {
    if (!is_here("TLS")) {
        return;
    }
    const tests::TempDirectory ours;
    const tests::TempDirectory others;
    const std::vector<std::string> hosts{"127.0.0.1"};
    REQUIRE(transport::make_pki(ours.path(), hosts, {.use = transport::KeyUse::both}));
    REQUIRE(transport::make_pki(others.path(), hosts));
    const EtcdServer server{ours.path()};
    const auto with = [&](const std::filesystem::path& directory) {
        return arbiter_at(server.endpoint() + "?tls=" + directory.string());
    };
    const auto refused = [&](const std::unique_ptr<Arbiter>& arbiter) {
        auto found = arbiter->read(some_vm(), patience);
        REQUIRE_FALSE(found.has_value());
        return std::move(found).error();
    };
    const auto source = with(ours.path());
    const auto destination = with(ours.path());
    CHECK(read(*source) == std::nullopt);
    CHECK(is_done(*source, offered, Asker::source));
    CHECK(is_done(*destination, committed, Asker::destination));
    CHECK(read(*source) == committed);

    const auto stranger = refused(with(others.path()));
    CHECK(stranger.code() == ErrorCode::authentication);
    CHECK(stranger.text().find(server.endpoint()) != std::string::npos);
    std::filesystem::copy_file(
        ours.path() / transport::ca_cert_file,
        others.path() / transport::ca_cert_file,
        std::filesystem::copy_options::overwrite_existing);
    CHECK(refused(with(others.path())).code() == ErrorCode::authentication);

    const auto nothing = refused(with(ours.path() / "none"));
    CHECK(nothing.text().find("none/ca-cert.pem") != std::string::npos);
    const auto unsaid = refused(arbiter_at(server.endpoint()));
    CHECK(unsaid.code() == ErrorCode::connection_lost);
    CHECK(unsaid.text().find("does it want TLS?") != std::string::npos);

    const EtcdServer bare;
    const auto not_tls = refused(arbiter_at(bare.endpoint() + "?tls=" + ours.path().string()));
    CHECK(not_tls.text().find("TLS") != std::string::npos);
    CHECK(not_tls.text().find("--insecure") == std::string::npos);
}

TEST_CASE("etcd arbiter: garbage under the key is named and decides nothing") {
    if (!is_here("garbage")) {
        return;
    }
    const EtcdServer server;
    const auto arbiter = arbiter_at(server.endpoint());
    // {"key": "wherry/vm/...", "value": "hello"}
    boost::asio::io_context io;
    std::optional<formats::Result<transport::HttpAnswer>> put;
    transport::spawn(
        io.get_executor(),
        put_at(
            *transport::Endpoint::parse(server.endpoint()),
            R"({"key":"d2hlcnJ5L3ZtLzZmMWUwYTUyLTNiNzctNGMxZC05YTU1LTAxMjM0NTY3ODlhYg==",)"
            R"("value":"aGVsbG8="})"),
        [&](formats::Result<transport::HttpAnswer> answer) { put = std::move(answer); });
    io.run();
    REQUIRE(put->has_value());
    REQUIRE((*put)->status == 200);
    const auto found = arbiter->read(some_vm(), patience);
    REQUIRE(!found.has_value());
    CHECK(found.error().code() == ErrorCode::corrupted);
    CHECK(found.error().text().find("wherry/vm/" + some_vm().to_string()) != std::string::npos);
    CHECK(!arbiter->request(some_vm(), offered, Asker::source, patience).has_value());
}

TEST_CASE("etcd arbiter: whatever else answers is an error of its own") {
    const auto code_for = [](std::string answer) {
        const CannedServer server{std::move(answer)};
        const auto found = arbiter_at(server.endpoint())->read(some_vm(), patience);
        REQUIRE(!found.has_value());
        return found.error().code();
    };
    CHECK(code_for("SSH-2.0-OpenSSH_9.2\r\n") == ErrorCode::protocol);
    CHECK(code_for(answer_with("200 OK", "hello")) == ErrorCode::protocol);
    CHECK(code_for(answer_with("200 OK", R"({"kvs":[{"key":"eA=="}]})")) == ErrorCode::protocol);
    CHECK(code_for(answer_with("200 OK", std::string(70000, ' '))) == ErrorCode::protocol);
    CHECK(code_for(answer_with("403 Forbidden", R"({"error":"denied"})")) == ErrorCode::refused);
    CHECK(code_for(answer_with("500 Oops", "")) == ErrorCode::unreachable);
    CHECK(code_for("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{") == ErrorCode::connection_lost);
}
