// SPDX-License-Identifier: Apache-2.0
#include "migrate/bandwidth_limit.hpp"

#include <algorithm>

namespace wherry::migrate {

namespace {
constexpr transport::Duration look_again = std::chrono::milliseconds{50};
}

void BandwidthLimit::set_rate(std::optional<transport::BytesPerSecond> rate) {
    const std::scoped_lock held{mutex_};
    bucket_.set_rate(rate);
}

transport::Duration BandwidthLimit::try_take(formats::Bytes bytes) {
    const std::scoped_lock held{mutex_};
    return bucket_.try_take(bytes);
}

void BandwidthLimit::charge(formats::Bytes bytes) {
    const std::scoped_lock held{mutex_};
    bucket_.charge(bytes);
}

transport::Task<void> BandwidthLimit::take(formats::Bytes bytes) {
    while (true) {
        const auto delay = try_take(bytes);
        if (delay == transport::Duration::zero()) {
            co_return formats::Status{};
        }
        auto waited = co_await transport::pause_for(std::min(delay, look_again));
        if (!waited) {
            co_return waited;
        }
    }
}

} // namespace wherry::migrate
