// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/runner.hpp"

#include <functional>
#include <memory>

namespace wherry::migrate {

/// Where a person's word on who has the VM reaches a session that is at work.
class OperatorDesk {
public:
    /// `session` is the executor of the session that will attach.
    explicit OperatorDesk(transport::Executor session);
    OperatorDesk(const OperatorDesk&) = delete;
    OperatorDesk& operator=(const OperatorDesk&) = delete;
    ~OperatorDesk() = default;

    /// From a coroutine of any thread; its answer is the owner's. wrong_state where no session is
    /// at work.
    transport::Task<void> say(std::function<formats::Result<OwnershipActions>(Owner&)> word);

    // The session's, on its thread.
    void attach(OwnershipRunner& runner);
    void detach();

private:
    struct Shared {
        OwnershipRunner* runner = nullptr; ///< the session's thread's
    };
    static transport::Task<void> deliver(
        std::shared_ptr<Shared> shared,
        std::function<formats::Result<OwnershipActions>(Owner&)> word);

    transport::Executor session_;
    std::shared_ptr<Shared> shared_;
};

} // namespace wherry::migrate
