// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/api_server.hpp"

#include "tools/json.hpp"

#include <cerrno>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include <sys/stat.h>

namespace wherry::tools {

namespace http = boost::beast::http;
using boost::asio::local::stream_protocol;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using transport::as_result;
using transport::Task;

struct ApiServer::State {
    State(const transport::Executor& executor, Handler on_call)
        : acceptor{executor},
          handler{std::move(on_call)} {}

    /// Both keep the state alive through their argument.
    static Task<void> accept_clients(std::shared_ptr<State> state);
    static Task<void> serve(std::shared_ptr<State> state, stream_protocol::socket client);

    stream_protocol::acceptor acceptor;
    Handler handler;
    bool closed = false;
};

namespace {

http::status status_for(ErrorCode code) {
    switch (code) { // NOLINT(clang-diagnostic-switch-enum): the rest is the caller's trouble alike
    case ErrorCode::invalid_argument:
        return http::status::bad_request;
    case ErrorCode::not_found:
        return http::status::not_found;
    case ErrorCode::permission:
        return http::status::forbidden;
    case ErrorCode::already_exists:
    case ErrorCode::wrong_state:
    case ErrorCode::cancelled:
    case ErrorCode::in_doubt:
        return http::status::conflict;
    case ErrorCode::internal:
        return http::status::internal_server_error;
    case ErrorCode::unsupported:
        return http::status::not_implemented;
    case ErrorCode::out_of_resources:
    case ErrorCode::io:
    case ErrorCode::guest:
    case ErrorCode::unreachable:
    case ErrorCode::connection_lost:
    case ErrorCode::timed_out:
    case ErrorCode::authentication:
    case ErrorCode::protocol:
    case ErrorCode::version_mismatch:
    case ErrorCode::corrupted:
    case ErrorCode::incompatible:
    case ErrorCode::refused:
        return http::status::service_unavailable;
    }
    return http::status::internal_server_error;
}

ApiCall call_from(http::request<http::string_body> message) {
    const std::string target{message.target()};
    const auto question = target.find('?');
    const bool has_query = question != std::string::npos;
    return {
        .method = std::string{message.method_string()},
        .path = target.substr(0, question),
        .query = has_query ? target.substr(question + 1) : std::string{},
        .body = std::move(message).body()};
}

http::response<http::string_body> answer_from(Result<std::string> outcome, unsigned version) {
    http::response<http::string_body> answer{http::status::ok, version};
    answer.set(http::field::content_type, "application/json");
    if (outcome) {
        answer.body() = *std::move(outcome);
    } else {
        answer.result(status_for(outcome.error().code()));
        api::ErrorAnswer refusal;
        *refusal.mutable_error() = failure_from(outcome.error());
        answer.body() = to_json(refusal, JsonLayout::one_line);
    }
    answer.prepare_payload();
    return answer;
}

using Request = http::request_parser<http::string_body>;

} // namespace

/// One client: calls one after another until it leaves or breaks the protocol.
Task<void> ApiServer::State::serve(std::shared_ptr<State> state, stream_protocol::socket client) {
    boost::beast::flat_buffer buffer;
    while (!state->closed) {
        http::request_parser<http::string_body> parser;
        parser.body_limit(largest_body);
        auto received = co_await http::async_read(client, buffer, parser, as_result);
        if (std::get<0>(received)) {
            // The client left, or sent what is not HTTP: nobody is there to be told.
            co_return Status{};
        }
        const unsigned version = parser.get().version();
        const bool keep = parser.get().keep_alive();
        ApiCall call = call_from(parser.release());
        auto outcome = co_await state->handler(std::move(call));
        auto answer = answer_from(std::move(outcome), version);
        answer.keep_alive(keep);
        auto sent = co_await http::async_write(client, answer, as_result);
        if (std::get<0>(sent) || !keep) {
            co_return Status{};
        }
    }
    co_return Status{};
}

Task<void> ApiServer::State::accept_clients(std::shared_ptr<State> state) {
    while (!state->closed) {
        auto accepted = co_await state->acceptor.async_accept(as_result);
        if (state->closed) {
            break;
        }
        if (std::get<0>(accepted)) { // out of descriptors: clients wait in the queue meanwhile
            auto waited = co_await transport::pause_for(std::chrono::milliseconds{50});
            if (!waited) {
                co_return waited;
            }
            continue;
        }
        auto executor = state->acceptor.get_executor();
        transport::spawn(
            executor, serve(state, std::get<1>(std::move(accepted))), [](const Status&) {});
    }
    co_return Status{};
}

ApiServer::ApiServer(std::shared_ptr<State> state) : state_{std::move(state)} {}
ApiServer::ApiServer(ApiServer&&) noexcept = default;
ApiServer& ApiServer::operator=(ApiServer&&) noexcept = default;

ApiServer::~ApiServer() {
    if (state_) {
        close();
    }
}

void ApiServer::close() {
    state_->closed = true;
    boost::system::error_code ignored; // closing what is closed is no failure
    state_->acceptor.close(ignored);
}

Result<ApiServer> ApiServer::open(
    transport::Executor executor, const std::filesystem::path& socket, Handler handler) {
    auto state = std::make_shared<State>(executor, std::move(handler));
    boost::system::error_code problem;
    const stream_protocol::endpoint at{socket.string()};
    state->acceptor.open(at.protocol(), problem);
    if (!problem) {
        state->acceptor.bind(at, problem);
    }
    if (!problem && ::chmod(socket.c_str(), 0600) != 0) {
        problem.assign(errno, boost::system::system_category());
    }
    if (!problem) {
        state->acceptor.listen(boost::asio::socket_base::max_listen_connections, problem);
    }
    if (problem) {
        return fail(formats::system_error(problem.value(), "cannot listen on " + socket.string()));
    }
    transport::spawn(executor, State::accept_clients(state), [](const Status&) {});
    return ApiServer{std::move(state)};
}

} // namespace wherry::tools
