// SPDX-License-Identifier: Apache-2.0
#include "transport/http_connection.hpp"

#include <array>
#include <span>
#include <sstream>
#include <utility>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

namespace wherry::transport {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using formats::ErrorCode;
using formats::fail;

namespace {

std::string request_for(const Endpoint& to, HttpPost&& what) {
    http::request<http::string_body> request{http::verb::post, what.target, 11};
    request.set(http::field::host, to.to_string());
    request.set(http::field::content_type, "application/json");
    request.body() = std::move(what.body);
    request.prepare_payload();
    std::ostringstream text;
    text << request;
    return std::move(text).str();
}

std::unexpected<formats::Error>
broken(const Endpoint& from, ErrorCode code, const beast::error_code& problem) {
    return fail(code, fmt::format("{}: {}", from.to_string(), problem.message()));
}

} // namespace

HttpConnection::HttpConnection(Endpoint to, bool is_bare, std::unique_ptr<ByteStream> stream)
    : to_{std::move(to)},
      is_bare_{is_bare},
      stream_{std::move(stream)} {}

Task<std::unique_ptr<HttpConnection>> HttpConnection::open(Endpoint to, Security security) {
    const bool is_bare = std::holds_alternative<Insecure>(security);
    auto stream = co_await connect(to, std::move(security), {.waits_for_listener = false});
    if (!stream) {
        co_return fail(std::move(stream).error());
    }
    co_return std::unique_ptr<HttpConnection>{
        new HttpConnection{std::move(to), is_bare, *std::move(stream)}};
}

Task<HttpAnswer> HttpConnection::post(HttpPost what) {
    const auto limit = what.answer_limit;
    const auto request = request_for(to_, std::move(what));
    if (auto sent = co_await stream_->write_all(std::as_bytes(std::span{request})); !sent) {
        co_return fail(std::move(sent).error());
    }
    co_return co_await read_answer(limit);
}

Task<HttpAnswer> HttpConnection::read_answer(std::size_t body_limit) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(body_limit);
    parser.eager(true);
    beast::flat_buffer buffer;
    std::array<std::byte, 4096> piece{};
    while (!parser.is_done()) {
        const auto got = co_await stream_->read_some(piece);
        if (!got) {
            co_return fail(got.error());
        }
        beast::error_code problem;
        if (*got == 0 && !parser.got_some()) {
            co_return fail(
                ErrorCode::connection_lost,
                fmt::format(
                    "{} ended the connection without an answer{}",
                    to_.to_string(),
                    is_bare_ ? "; does it want TLS?" : ""));
        }
        if (*got == 0) {
            parser.put_eof(problem);
            if (problem) {
                co_return broken(to_, ErrorCode::connection_lost, problem);
            }
            break;
        }
        boost::asio::buffer_copy(buffer.prepare(*got), boost::asio::buffer(piece, *got));
        buffer.commit(*got);
        buffer.consume(parser.put(buffer.data(), problem));
        if (problem && problem != http::error::need_more) {
            co_return broken(to_, ErrorCode::protocol, problem);
        }
    }
    // Bytes behind an answer belong to no request.
    const bool may_go_on = parser.keep_alive() && buffer.size() == 0;
    auto answer = parser.release();
    co_return HttpAnswer{
        .status = answer.result_int(), .body = std::move(answer.body()), .may_go_on = may_go_on};
}

} // namespace wherry::transport
