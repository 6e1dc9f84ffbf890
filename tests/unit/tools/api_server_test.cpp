// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/api_server.hpp"

#include "tools/api_client.hpp"
#include "tools/json.hpp"

#include <filesystem>
#include <string>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace wherry;
using formats::ErrorCode;
namespace fs = std::filesystem;

namespace {

transport::Task<std::string> answer(tools::ApiCall call) {
    if (call.path == "/v1/vm") {
        api::Vm vm;
        vm.set_name("a");
        co_return tools::to_json(vm, tools::JsonLayout::one_line);
    }
    co_return formats::fail(ErrorCode::wrong_state, "not now: " + call.method + " " + call.path);
}

/// A server on a thread of its own.
class RunningServer {
public:
    RunningServer()
        : socket_{fs::temp_directory_path() / ("wherry-api-" + std::to_string(::getpid()))} {
        fs::remove(socket_);
        auto opened = tools::ApiServer::open(context_.get_executor(), socket_, answer);
        REQUIRE(opened.has_value());
        server_.emplace(*std::move(opened));
        thread_ = std::thread{[this] {
            context_.run();
        }};
    }
    ~RunningServer() {
        context_.stop();
        thread_.join();
        fs::remove(socket_);
    }
    RunningServer(const RunningServer&) = delete;
    RunningServer& operator=(const RunningServer&) = delete;
    [[nodiscard]] const fs::path& socket() const { return socket_; }

private:
    fs::path socket_;
    boost::asio::io_context context_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        context_.get_executor()};
    std::optional<tools::ApiServer> server_;
    std::thread thread_;
};

/// Sends bytes as they are and returns what comes back until the server hangs up.
std::string send_raw(const fs::path& socket, const std::string& bytes) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket.string().copy(static_cast<char*>(address.sun_path), sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets API is so
    REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    // The server may hang up before it has taken everything.
    const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    std::string received;
    std::string block(4096, '\0');
    for (auto got = sent; got > 0;) {
        got = ::read(fd, block.data(), block.size());
        received.append(block, 0, got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    ::close(fd);
    return received;
}

} // namespace

TEST_SUITE("tools.api_server") {
    TEST_CASE("one connection carries call after call") {
        const RunningServer server;
        auto client = tools::ApiClient::connect(server.socket());
        REQUIRE(client.has_value());
        for (int call = 0; call < 3; ++call) {
            const auto vm = client->vm();
            REQUIRE(vm.has_value());
            CHECK(vm->name() == "a");
        }
    }

    TEST_CASE("a refusal reaches the client with code and text") {
        const RunningServer server;
        auto client = tools::ApiClient::connect(server.socket());
        REQUIRE(client.has_value());
        const auto vm = client->pause();
        REQUIRE_FALSE(vm.has_value());
        CHECK(vm.error().code() == ErrorCode::wrong_state);
        CHECK(vm.error().text() == "not now: POST /v1/vm/pause");
        CHECK(client->vm().has_value());
    }

    TEST_CASE("the socket is its user's alone") {
        const RunningServer server;
        struct stat status{};
        REQUIRE(::stat(server.socket().c_str(), &status) == 0);
        CHECK((status.st_mode & 0777U) == 0600U);
    }

    TEST_CASE("garbage and oversized bodies end that client only") {
        const RunningServer server;
        CHECK(send_raw(server.socket(), std::string(1000, '\xff')).empty());
        const std::string huge(tools::ApiServer::largest_body + 1, ' ');
        const auto answered = send_raw(
            server.socket(),
            "POST /v1/vm HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(huge.size()) +
                "\r\n\r\n" + huge);
        CHECK(answered.empty());
        auto client = tools::ApiClient::connect(server.socket());
        REQUIRE(client.has_value());
        CHECK(client->vm().has_value());
    }
}
