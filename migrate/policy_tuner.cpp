// SPDX-License-Identifier: Apache-2.0
#include "migrate/policy_tuner.hpp"

#include <mutex>
#include <utility>

#include <boost/asio/post.hpp>

namespace wherry::migrate {

struct PolicyTuner::Shared {
    std::mutex mutex;
    std::optional<Policy> policy;             ///< while attached
    std::function<void(const Policy&)> adopt; ///< the session's thread only
};

PolicyTuner::PolicyTuner(transport::Executor executor)
    : executor_{std::move(executor)},
      shared_{std::make_shared<Shared>()} {}

formats::Status PolicyTuner::change(const PolicyChange& change) {
    const std::scoped_lock held{shared_->mutex};
    if (!shared_->policy) {
        return formats::fail(
            formats::ErrorCode::wrong_state, "there is no migration under way to change");
    }
    Policy wanted = *shared_->policy;
    wanted.downtime = change.downtime.value_or(wanted.downtime);
    wanted.on_stall = change.on_stall ? change.on_stall : wanted.on_stall;
    wanted.bandwidth = change.bandwidth.value_or(wanted.bandwidth);
    wanted.postcopy_bandwidth = change.postcopy_bandwidth.value_or(wanted.postcopy_bandwidth);
    wanted.deadline = change.deadline.value_or(wanted.deadline);
    if (auto good = wanted.check(); !good) {
        return good;
    }
    shared_->policy = wanted;
    boost::asio::post(executor_, [shared = shared_, wanted] {
        if (shared->adopt) {
            shared->adopt(wanted);
        }
    });
    return {};
}

void PolicyTuner::attach(const Policy& policy, std::function<void(const Policy&)> adopt) {
    shared_->adopt = std::move(adopt);
    const std::scoped_lock held{shared_->mutex};
    shared_->policy = policy;
}

void PolicyTuner::detach() {
    shared_->adopt = {};
    const std::scoped_lock held{shared_->mutex};
    shared_->policy.reset();
}

} // namespace wherry::migrate
