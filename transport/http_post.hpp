// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/connection.hpp"
#include "transport/endpoint.hpp"
#include "transport/task.hpp"

#include <cstddef>
#include <string>

namespace wherry::transport {

struct HttpPost {
    std::string target; ///< "/v3/kv/range"
    std::string body;   ///< JSON
    Duration limit{};   ///< for all of it: name, connection, request and answer
    std::size_t answer_limit = 65536;
};

struct HttpAnswer {
    unsigned status = 0;
    std::string body;
};

/// One HTTP/1.1 request on a connection of its own. A TlsContext names no protocol. Any status is
/// an answer. Error {unreachable} was never sent; {timed_out, connection_lost} may have been
/// carried out, now or later; {protocol} is no HTTP, or over the limit; {authentication} is who
/// refused whom.
Task<HttpAnswer> http_post(Endpoint to, Security security, HttpPost what);

} // namespace wherry::transport
