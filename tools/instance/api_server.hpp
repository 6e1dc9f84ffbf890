// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "transport/task.hpp"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace wherry::tools {

struct ApiCall {
    std::string method; ///< "GET", "POST"
    std::string path;   ///< "/v1/vm", without the query
    std::string query;  ///< what follows '?'
    std::string body;   ///< at most ApiServer::largest_body
};

/// HTTP/1.1 with JSON bodies on a UNIX socket that only its user can open. Everything happens on
/// the executor's thread.
class ApiServer {
public:
    static constexpr std::size_t largest_body = std::size_t{64} * 1024;
    /// The body of the answer, or the Error that becomes one: its code chooses the HTTP status.
    using Handler = std::function<transport::Task<std::string>(ApiCall)>;

    /// Listens at once. `handler` may be running several times, for several clients.
    static formats::Result<ApiServer>
    open(transport::Executor executor, const std::filesystem::path& socket, Handler handler);
    ApiServer(ApiServer&&) noexcept;
    ApiServer& operator=(ApiServer&&) noexcept;
    ~ApiServer();

    /// Takes no new connections and no new calls; calls being answered are finished. Idempotent.
    void close();

private:
    struct State;
    explicit ApiServer(std::shared_ptr<State> state);
    /// Shared with the tasks of the connections, which may outlive the server by one answer.
    std::shared_ptr<State> state_;
};

} // namespace wherry::tools
