// SPDX-License-Identifier: Apache-2.0
#include "transport/http_post.hpp"

#include "transport/detail/resolve.hpp"

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

namespace wherry::transport {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using formats::ErrorCode;
using formats::fail;

namespace {

std::unexpected<formats::Error>
broken(const Endpoint& to, const beast::error_code& problem, ErrorCode otherwise) {
    if (problem == beast::error::timeout) {
        return fail(ErrorCode::timed_out, fmt::format("{} does not answer", to.to_string()));
    }
    const bool is_ours = problem == boost::asio::error::operation_aborted;
    const bool is_no_http =
        problem.category() == make_error_code(http::error::bad_version).category() &&
        problem != http::error::end_of_stream && problem != http::error::partial_message;
    return fail(
        is_ours ? ErrorCode::cancelled : (is_no_http ? ErrorCode::protocol : otherwise),
        fmt::format("{}: {}", to.to_string(), problem.message()));
}

http::request<http::string_body> request_for(const Endpoint& to, HttpPost&& what) {
    http::request<http::string_body> request{http::verb::post, what.target, 11};
    request.set(http::field::host, to.to_string());
    request.set(http::field::content_type, "application/json");
    request.keep_alive(false);
    request.body() = std::move(what.body);
    request.prepare_payload();
    return request;
}

} // namespace

Task<HttpAnswer> http_post(Endpoint to, HttpPost what) {
    const auto end = std::chrono::steady_clock::now() + what.limit;
    auto addresses = co_await within(what.limit, detail::resolve(to));
    if (!addresses) {
        co_return fail(std::move(addresses).error());
    }
    auto executor = co_await boost::asio::this_coro::executor;
    beast::tcp_stream stream{executor};
    stream.expires_at(end);
    auto [no_connection, at] = co_await stream.async_connect(*addresses, as_result);
    if (no_connection) {
        co_return broken(to, no_connection, ErrorCode::unreachable);
    }
    http::response_parser<http::string_body> parser;
    parser.body_limit(what.answer_limit);
    const auto request = request_for(to, std::move(what));
    auto [not_sent, sent] = co_await http::async_write(stream, request, as_result);
    if (not_sent) {
        co_return broken(to, not_sent, ErrorCode::connection_lost);
    }
    beast::flat_buffer buffer;
    auto [no_answer, got] = co_await http::async_read(stream, buffer, parser, as_result);
    if (no_answer) {
        co_return broken(to, no_answer, ErrorCode::connection_lost);
    }
    auto answer = parser.release();
    co_return HttpAnswer{.status = answer.result_int(), .body = std::move(answer.body())};
}

} // namespace wherry::transport
