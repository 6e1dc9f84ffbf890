// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/connection.hpp"
#include "transport/endpoint.hpp"
#include "transport/task.hpp"

#include <cstddef>
#include <memory>
#include <string>

namespace wherry::transport {

struct HttpPost {
    std::string target; ///< "/v3/kv/range"
    std::string body;   ///< JSON
    std::size_t answer_limit = 65536;
};

struct HttpAnswer {
    unsigned status = 0;
    std::string body;
    bool may_go_on = false; ///< the connection takes another request
};

/// A connection for HTTP/1.1 requests, one after another. Belongs to the thread of its executor.
class HttpConnection {
public:
    /// Connects, once. A TlsContext names no protocol. Error {unreachable}, {timed_out} and
    /// {authentication} as connect() has them.
    static Task<std::unique_ptr<HttpConnection>> open(Endpoint to, Security security);

    /// Any status is an answer. Error {connection_lost} may have been carried out, now or later, as
    /// may whatever is cancelled; {protocol} is no HTTP, or over the limit; {authentication} is the
    /// server's refusal of us. Nothing can be posted after an Error.
    Task<HttpAnswer> post(HttpPost what);

private:
    HttpConnection(Endpoint to, bool is_bare, std::unique_ptr<ByteStream> stream);
    Task<HttpAnswer> read_answer(std::size_t body_limit);

    Endpoint to_;
    bool is_bare_;
    std::unique_ptr<ByteStream> stream_;
};

} // namespace wherry::transport
