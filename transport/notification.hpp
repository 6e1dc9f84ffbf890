// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

namespace wherry::transport {

/// A condition variable for coroutines of one thread. Nothing is remembered: test the condition,
/// then wait, in a loop; there is no gap between the two on one thread.
class Notification {
public:
    explicit Notification(const Executor& executor);

    /// Returns after the next notify_all(); Error{cancelled} when cancelled.
    Task<void> wait();
    /// As wait(); Error{timed_out} after `limit`.
    Task<void> wait(Duration limit);
    void notify_all();

private:
    boost::asio::steady_timer timer_;
    std::uint64_t generation_ = 0;
};

} // namespace wherry::transport
