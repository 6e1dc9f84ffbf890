// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace wherry::transport {

/// An io_context with a thread that runs it.
class IoThread {
public:
    IoThread()
        : work_{boost::asio::make_work_guard(context_)},
          thread_{[this] {
              context_.run();
          }} {}
    IoThread(const IoThread&) = delete;
    IoThread& operator=(const IoThread&) = delete;
    ~IoThread() { stop(); }

    /// Returns when the thread has ended; what ran on it is dropped with this object. Idempotent.
    void stop() {
        context_.stop();
        if (thread_.joinable()) {
            thread_.join();
        }
    }
    [[nodiscard]] Executor executor() { return context_.get_executor(); }

private:
    boost::asio::io_context context_{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
    std::thread thread_;
};

} // namespace wherry::transport
