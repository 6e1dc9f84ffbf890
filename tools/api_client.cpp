// SPDX-License-Identifier: Apache-2.0
#include "tools/api_client.hpp"

#include "tools/instance/registry.hpp"
#include "tools/json.hpp"

#include <cerrno>
#include <chrono>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include <poll.h>

namespace wherry::tools {

namespace http = boost::beast::http;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::then;

struct ApiClient::Connection {
    boost::asio::io_context context;
    boost::asio::local::stream_protocol::socket socket{context};
    boost::beast::flat_buffer buffer;
};

ApiClient::ApiClient(std::unique_ptr<Connection> connection) : connection_{std::move(connection)} {}
ApiClient::ApiClient(ApiClient&&) noexcept = default;
ApiClient& ApiClient::operator=(ApiClient&&) noexcept = default;
ApiClient::~ApiClient() = default;

namespace {

std::unexpected<formats::Error> lost(const boost::system::error_code& problem) {
    return fail(
        ErrorCode::connection_lost,
        fmt::format("the VM's process does not answer any more: {}", problem.message()));
}

/// For an image to be written.
constexpr std::chrono::seconds long_patience = std::chrono::hours{1};
/// For a decision to be carried out: disks and an arbiter have their own limits.
constexpr std::chrono::seconds decision_patience{30};

bool answers_in_time(int socket, std::chrono::seconds patience) {
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    const auto limit = std::chrono::milliseconds{patience}.count();
    int ready = 0;
    do {
        ready = ::poll(&waiting, 1, static_cast<int>(limit));
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

formats::Error refusal(const std::string& body) {
    const auto answer = message_from_json<api::ErrorAnswer>(body);
    return answer ? error_from(answer->error())
                  : formats::Error{ErrorCode::protocol, "the VM's process answered: " + body};
}

} // namespace

Result<ApiClient> ApiClient::connect(const std::filesystem::path& socket) {
    auto connection = std::make_unique<Connection>();
    boost::system::error_code problem;
    connection->socket.connect({socket.string()}, problem);
    if (problem) {
        return fail(
            ErrorCode::unreachable,
            fmt::format("{} does not answer: {}", socket.string(), problem.message()));
    }
    return ApiClient{std::move(connection)};
}

Result<ApiClient> ApiClient::connect_to(std::string_view name) {
    return then(find_instance(name), connect);
}

Result<std::string> ApiClient::request(
    std::string_view method,
    std::string_view target,
    std::string body,
    std::chrono::seconds patience) {
    http::request<http::string_body> message{
        http::string_to_verb(method), {target.data(), target.size()}, 11};
    message.set(http::field::host, "wherry");
    message.set(http::field::content_type, "application/json");
    message.body() = std::move(body);
    message.prepare_payload();
    boost::system::error_code problem;
    http::write(connection_->socket, message, problem);
    if (problem) {
        return lost(problem);
    }
    if (!answers_in_time(connection_->socket.native_handle(), patience)) {
        return fail(
            ErrorCode::timed_out,
            fmt::format(
                "the VM's process has not answered for {} s: it is stopped or stuck",
                patience.count()));
    }
    http::response<http::string_body> answer;
    http::read(connection_->socket, connection_->buffer, answer, problem);
    if (problem) {
        return lost(problem);
    }
    if (http::to_status_class(answer.result()) != http::status_class::successful) {
        return fail(refusal(answer.body()));
    }
    return std::move(answer).body();
}

Result<api::Vm> ApiClient::vm() {
    return then(request("GET", "/v1/vm", {}), message_from_json<api::Vm>);
}

Result<api::Vm> ApiClient::pause() {
    return then(request("POST", "/v1/vm/pause", {}), message_from_json<api::Vm>);
}

Result<api::Vm> ApiClient::resume() {
    return then(request("POST", "/v1/vm/resume", {}), message_from_json<api::Vm>);
}

Result<api::Vm> ApiClient::kill() {
    return then(request("POST", "/v1/vm/kill", {}), message_from_json<api::Vm>);
}

Result<api::Vm> ApiClient::resolve(const api::ResolveRequest& what) {
    return then(
        request("POST", "/v1/vm/resolve", to_json(what, JsonLayout::one_line), decision_patience),
        message_from_json<api::Vm>);
}

Result<api::Vm> ApiClient::salvage(const api::SalvageRequest& what) {
    return then(
        request("POST", "/v1/vm/salvage", to_json(what, JsonLayout::one_line), long_patience),
        message_from_json<api::Vm>);
}

Result<api::Job> ApiClient::migrate(const api::MigrateRequest& what) {
    return then(
        request("POST", "/v1/vm/migrate", to_json(what, JsonLayout::one_line)),
        message_from_json<api::Job>);
}

Result<api::Job> ApiClient::estimate(const api::EstimateRequest& what) {
    return then(
        request("POST", "/v1/vm/estimate", to_json(what, JsonLayout::one_line)),
        message_from_json<api::Job>);
}

Result<api::Job> ApiClient::snapshot(const api::SnapshotRequest& what) {
    return then(
        request("POST", "/v1/vm/snapshot", to_json(what, JsonLayout::one_line)),
        message_from_json<api::Job>);
}

Result<api::Job> ApiClient::job(std::string_view id) {
    return then(request("GET", fmt::format("/v1/jobs/{}", id), {}), message_from_json<api::Job>);
}

Result<api::Job> ApiClient::cancel(std::string_view id) {
    return then(
        request("POST", fmt::format("/v1/jobs/{}/cancel", id), {}), message_from_json<api::Job>);
}

Result<api::Job> ApiClient::switch_to_postcopy(std::string_view id) {
    return then(
        request("POST", fmt::format("/v1/jobs/{}/postcopy", id), {}), message_from_json<api::Job>);
}

Result<api::Job> ApiClient::tune(std::string_view id, const api::TuneRequest& change) {
    return then(
        request("POST", fmt::format("/v1/jobs/{}/set", id), to_json(change, JsonLayout::one_line)),
        message_from_json<api::Job>);
}

Result<api::Job>
ApiClient::watch(std::string_view id, const std::function<bool(const api::Job&)>& each) {
    // The instance answers a watch when the job has moved on, or after its own patience: see
    // api_server. One request a step keeps both sides simple and loses nothing.
    for (;;) {
        auto now = then(
            request("GET", fmt::format("/v1/jobs/{}?wait", id), {}), message_from_json<api::Job>);
        if (!now) {
            return now;
        }
        const bool goes_on = each(*now);
        if (now->state() != "running" || !goes_on) {
            return now;
        }
    }
}

} // namespace wherry::tools
