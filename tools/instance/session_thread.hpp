// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace wherry::tools {

/// The thread on which migrations run, apart from the API so that a busy link never makes the API
/// wait.
class SessionThread {
public:
    SessionThread()
        : work_{boost::asio::make_work_guard(context_)},
          thread_{[this] {
              context_.run();
          }} {}
    SessionThread(const SessionThread&) = delete;
    SessionThread& operator=(const SessionThread&) = delete;
    ~SessionThread() { stop(); }

    /// Returns when the thread has ended; what ran on it is dropped with this object. Idempotent.
    void stop() {
        context_.stop();
        if (thread_.joinable()) {
            thread_.join();
        }
    }
    [[nodiscard]] transport::Executor executor() { return context_.get_executor(); }

private:
    boost::asio::io_context context_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::thread thread_;
};

} // namespace wherry::tools
