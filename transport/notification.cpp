// SPDX-License-Identifier: Apache-2.0
#include "transport/notification.hpp"

namespace wherry::transport {

Notification::Notification(const Executor& executor)
    : timer_{executor, std::chrono::steady_clock::time_point::max()} {}

Task<void> Notification::wait() {
    auto alive = co_await check_cancelled();
    if (!alive) {
        co_return alive;
    }
    const auto before = generation_;
    co_await timer_.async_wait(as_result);
    if (generation_ == before) {
        co_return formats::fail(formats::ErrorCode::cancelled, "the wait was cancelled");
    }
    co_return formats::Status{};
}

Task<void> Notification::wait(Duration limit) {
    co_return co_await within(limit, wait());
}

void Notification::notify_all() {
    ++generation_;
    timer_.cancel();
}

} // namespace wherry::transport
