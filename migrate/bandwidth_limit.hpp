// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/rate_limiter.hpp"

#include <mutex>
#include <optional>

namespace wherry::migrate {

/// One limit for all channels with pages together.
class BandwidthLimit {
public:
    /// `executor` is the session's.
    explicit BandwidthLimit(const transport::Executor& executor) : bucket_{executor} {}

    /// The session's thread. Who waits notices within `look_again`.
    void set_rate(std::optional<transport::BytesPerSecond> rate);
    /// Any thread: waits until `bytes` may be sent, and takes them.
    transport::Task<void> take(formats::Bytes bytes);
    /// Any thread: takes them at once; who asks with take() waits for them too.
    void charge(formats::Bytes bytes);

private:
    transport::Duration try_take(formats::Bytes bytes);

    std::mutex mutex_;
    transport::RateLimiter bucket_;
};

} // namespace wherry::migrate
