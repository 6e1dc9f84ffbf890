// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/policy.hpp"
#include "transport/task.hpp"

#include <functional>
#include <memory>
#include <optional>

namespace wherry::migrate {

/// What is to be different; unset stays as it is.
struct PolicyChange {
    std::optional<Duration> downtime{};
    std::optional<OnStall> on_stall{};
    /// Set to nothing: no limit, no deadline.
    std::optional<std::optional<BytesPerSecond>> bandwidth{};
    std::optional<std::optional<BytesPerSecond>> postcopy_bandwidth{};
    std::optional<std::optional<Duration>> deadline{};
};

/// Lets any thread change the policy of one session under way. Made before the session, outlives
/// it; good for one session.
class PolicyTuner {
public:
    /// `executor` is the session's.
    explicit PolicyTuner(transport::Executor executor);
    PolicyTuner(const PolicyTuner&) = delete;
    PolicyTuner& operator=(const PolicyTuner&) = delete;
    ~PolicyTuner() = default;

    /// Any thread. The session adopts it soon. invalid_argument, and no change, where the result
    /// could not be; wrong_state where there is no session, or not any more.
    formats::Status change(const PolicyChange& change);

    /// The session's: `adopt` is called on its thread with each new policy, until detach().
    void attach(const Policy& policy, std::function<void(const Policy&)> adopt);
    void detach();

private:
    struct Shared;
    transport::Executor executor_;
    std::shared_ptr<Shared> shared_; ///< with a posted call, which may come after the tuner is gone
};

} // namespace wherry::migrate
