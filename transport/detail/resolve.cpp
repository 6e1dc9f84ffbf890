// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/resolve.hpp"

#include "transport/notification.hpp"

#include <fmt/format.h>

namespace wherry::transport::detail {

using boost::asio::ip::tcp;
using formats::ErrorCode;
using formats::fail;

namespace {

/// One name resolution. Shared by the task that waits and the resolver's completion: getaddrinfo
/// cannot be interrupted, so a cancelled task leaves it behind.
struct Lookup {
    explicit Lookup(const Executor& executor) : resolver{executor}, done{executor} {}
    tcp::resolver resolver;
    Notification done;
    bool is_done = false;
    boost::system::error_code error;
    std::vector<tcp::endpoint> found;
};

} // namespace

Task<std::vector<tcp::endpoint>> resolve(Endpoint to) {
    boost::system::error_code no_literal;
    const auto literal = boost::asio::ip::make_address(to.host, no_literal);
    if (!no_literal) {
        co_return std::vector{tcp::endpoint{literal, to.port}};
    }
    auto executor = co_await boost::asio::this_coro::executor;
    auto lookup = std::make_shared<Lookup>(executor);
    lookup->resolver.async_resolve(
        to.host,
        std::to_string(to.port),
        tcp::resolver::numeric_service,
        [lookup](const boost::system::error_code& error, const tcp::resolver::results_type& all) {
            lookup->error = error;
            lookup->found.assign(all.begin(), all.end());
            lookup->is_done = true;
            lookup->done.notify_all();
        });
    while (!lookup->is_done) {
        auto waited = co_await lookup->done.wait();
        if (!waited) {
            co_return fail(std::move(waited).error());
        }
    }
    if (lookup->error) {
        co_return fail(
            ErrorCode::unreachable,
            fmt::format("cannot resolve '{}': {}", to.host, lookup->error.message()));
    }
    co_return std::move(lookup->found);
}

} // namespace wherry::transport::detail
