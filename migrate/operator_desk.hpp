// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/runner.hpp"

#include <functional>
#include <memory>

namespace wherry::migrate {

/// Where a person's word reaches a session that is at work: on who has the VM, and that it is to go
/// on at the destination now.
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
    /// The same; its answer is the source's, and wrong_state where no source is at work.
    transport::Task<void> switch_to_postcopy();
    /// The same for Owner::salvage(), with the guest stopped before.
    transport::Task<void> salvage();

    // The session's, on its thread. A destination has no switch.
    void attach(OwnershipRunner& runner, std::function<formats::Status()> switch_to_postcopy = {});
    void detach();

private:
    struct Shared {
        // The session's thread's:
        OwnershipRunner* runner = nullptr;
        std::function<formats::Status()> switch_to_postcopy;
    };
    static transport::Task<void> deliver_switch(std::shared_ptr<Shared> shared);
    using Delivery = std::function<transport::Task<void>(OwnershipRunner&)>;
    static transport::Task<void> deliver(std::shared_ptr<Shared> shared, Delivery delivery);
    transport::Task<void> on_session(transport::Task<void> delivery);

    transport::Executor session_;
    std::shared_ptr<Shared> shared_;
};

} // namespace wherry::migrate
