// SPDX-License-Identifier: Apache-2.0
#include "transport/http_post.hpp"

#include <array>
#include <span>
#include <sstream>
#include <string_view>
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
    request.keep_alive(false);
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

/// The answer, whose body may have that many bytes. `guess` is added where there is none.
Task<HttpAnswer> read_answer(
    ByteStream& stream, const Endpoint& from, std::size_t body_limit, std::string_view guess) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(body_limit);
    parser.eager(true);
    beast::flat_buffer buffer;
    std::array<std::byte, 4096> piece{};
    while (!parser.is_done()) {
        const auto got = co_await stream.read_some(piece);
        if (!got) {
            co_return fail(got.error());
        }
        beast::error_code problem;
        if (*got == 0 && !parser.got_some()) {
            co_return fail(
                ErrorCode::connection_lost,
                fmt::format(
                    "{} ended the connection without an answer{}", from.to_string(), guess));
        }
        if (*got == 0) {
            parser.put_eof(problem);
            if (problem) {
                co_return broken(from, ErrorCode::connection_lost, problem);
            }
            break;
        }
        boost::asio::buffer_copy(buffer.prepare(*got), boost::asio::buffer(piece, *got));
        buffer.commit(*got);
        buffer.consume(parser.put(buffer.data(), problem));
        if (problem && problem != http::error::need_more) {
            co_return broken(from, ErrorCode::protocol, problem);
        }
    }
    auto answer = parser.release();
    co_return HttpAnswer{.status = answer.result_int(), .body = std::move(answer.body())};
}

Task<HttpAnswer> exchange(Endpoint to, Security security, HttpPost what) {
    // Whoever comes first of these limits and that of all of it.
    const ConnectOptions options{
        .connect_deadline = what.limit,
        .handshake_deadline = what.limit,
        .waits_for_listener = false};
    const bool is_bare = std::holds_alternative<Insecure>(security);
    auto stream = co_await connect(to, std::move(security), options);
    if (!stream) {
        co_return fail(std::move(stream).error());
    }
    const auto limit = what.answer_limit;
    const auto request = request_for(to, std::move(what));
    if (auto sent = co_await (*stream)->write_all(std::as_bytes(std::span{request})); !sent) {
        co_return fail(std::move(sent).error());
    }
    co_return co_await read_answer(**stream, to, limit, is_bare ? "; does it want TLS?" : "");
}

} // namespace

Task<HttpAnswer> http_post(Endpoint to, Security security, HttpPost what) {
    const auto limit = what.limit;
    auto answer = co_await within(limit, exchange(to, std::move(security), std::move(what)));
    if (!answer && answer.error().code() == ErrorCode::timed_out) {
        co_return fail(ErrorCode::timed_out, fmt::format("{} does not answer", to.to_string()));
    }
    co_return std::move(answer);
}

} // namespace wherry::transport
