// SPDX-License-Identifier: Apache-2.0
#include "transport/rate_limiter.hpp"

#include <algorithm>
#include <cmath>

namespace wherry::transport {

using formats::ErrorCode;
using formats::Status;

namespace {
constexpr double bucket_seconds = 0.1;
}

RateLimiter::RateLimiter(const Executor& executor, Clock clock)
    : clock_{std::move(clock)},
      changed_{executor},
      refilled_at_{clock_()} {}

void RateLimiter::set_rate(std::optional<BytesPerSecond> rate) {
    if (rate) {
        rate = std::max(*rate, BytesPerSecond{1});
    }
    refill();
    // A debt keeps its length in time, not in bytes: a slower rate must not stretch it.
    tokens_ = rate_ && rate ? tokens_ * static_cast<double>(rate->value()) /
                                  static_cast<double>(rate_->value())
                            : 0;
    rate_ = rate;
    changed_.notify_all();
}

void RateLimiter::refill() {
    const auto now = clock_();
    const std::chrono::duration<double> passed = now - refilled_at_;
    refilled_at_ = now;
    if (rate_) {
        const auto rate = static_cast<double>(rate_->value());
        tokens_ = std::min(tokens_ + passed.count() * rate, rate * bucket_seconds);
    }
}

Duration RateLimiter::try_take(formats::Bytes bytes) {
    if (!rate_) {
        return Duration::zero();
    }
    refill();
    if (tokens_ >= 0) {
        tokens_ -= static_cast<double>(bytes.value());
        return Duration::zero();
    }
    const std::chrono::duration<double> missing{-tokens_ / static_cast<double>(rate_->value())};
    const auto longest = std::chrono::duration<double>{std::chrono::hours{24}};
    return std::chrono::ceil<Duration>(std::min(missing, longest));
}

void RateLimiter::charge(formats::Bytes bytes) {
    if (rate_) {
        refill();
        tokens_ -= static_cast<double>(bytes.value());
    }
}

Task<void> RateLimiter::take(formats::Bytes bytes) {
    for (;;) {
        const auto delay = try_take(bytes);
        if (delay == Duration::zero()) {
            co_return Status{};
        }
        auto waited = co_await changed_.wait(delay);
        if (!waited && waited.error().code() != ErrorCode::timed_out) {
            co_return waited;
        }
    }
}

} // namespace wherry::transport
