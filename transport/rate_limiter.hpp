// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/units.hpp"
#include "transport/notification.hpp"
#include "transport/task.hpp"

#include <functional>
#include <optional>

namespace wherry::transport {

using BytesPerSecond = formats::Quantity<struct BytesPerSecondTag>;

/// A token bucket. Unlimited until told otherwise. One thread; the rate may be changed at any time
/// and counts at once, also for those who wait. The bucket holds a tenth of a second.
class RateLimiter {
public:
    using Clock = std::function<std::chrono::steady_clock::time_point()>;

    explicit RateLimiter(const Executor& executor, Clock clock = std::chrono::steady_clock::now);

    /// Unset: unlimited. A rate of zero is taken as one byte per second.
    void set_rate(std::optional<BytesPerSecond> rate);
    [[nodiscard]] std::optional<BytesPerSecond> rate() const noexcept { return rate_; }

    /// Takes `bytes` if the bucket is not in debt, and returns zero; else takes nothing and returns
    /// how long until it may be tried again. One large taking may leave a debt: it is paid by time.
    Duration try_take(formats::Bytes bytes);
    /// Waits until `bytes` may be sent, and takes them.
    Task<void> take(formats::Bytes bytes);
    /// Takes them at once, whatever debt that leaves: for what cannot wait. Others wait for it.
    void charge(formats::Bytes bytes);

private:
    void refill();

    Clock clock_;
    Notification changed_;
    std::optional<BytesPerSecond> rate_;
    double tokens_ = 0; ///< bytes; negative is debt
    std::chrono::steady_clock::time_point refilled_at_;
};

} // namespace wherry::transport
