// SPDX-License-Identifier: Apache-2.0
#include "migrate/operator_desk.hpp"

#include "transport/task_group.hpp"

#include <utility>

namespace wherry::migrate {

using transport::Task;

OperatorDesk::OperatorDesk(transport::Executor session)
    : session_{std::move(session)},
      shared_{std::make_shared<Shared>()} {}

void OperatorDesk::attach(
    OwnershipRunner& runner, std::function<formats::Status()> switch_to_postcopy) {
    shared_->runner = &runner;
    shared_->switch_to_postcopy = std::move(switch_to_postcopy);
}

void OperatorDesk::detach() {
    shared_->runner = nullptr;
    shared_->switch_to_postcopy = {};
}

Task<void> OperatorDesk::deliver(std::shared_ptr<Shared> shared, Delivery delivery) {
    if (shared->runner == nullptr) {
        co_return formats::fail(
            formats::ErrorCode::wrong_state, "no hand-over of this VM is under way");
    }
    co_return co_await delivery(*shared->runner);
}

Task<void> OperatorDesk::on_session(Task<void> delivery) {
    auto here = co_await boost::asio::this_coro::executor;
    transport::TaskGroup asking{here};
    asking.start_on(session_, std::move(delivery));
    co_return co_await asking.join();
}

Task<void> OperatorDesk::deliver_switch(std::shared_ptr<Shared> shared) {
    if (!shared->switch_to_postcopy) {
        co_return formats::fail(
            formats::ErrorCode::wrong_state,
            "no migration from here is under way that could go on as post-copy; wherry migrate "
            "--mode hybrid begins one");
    }
    co_return shared->switch_to_postcopy();
}

Task<void> OperatorDesk::switch_to_postcopy() {
    return on_session(deliver_switch(shared_));
}

Task<void> OperatorDesk::say(std::function<formats::Result<OwnershipActions>(Owner&)> word) {
    return on_session(deliver(shared_, [word = std::move(word)](OwnershipRunner& runner) {
        return runner.at_a_persons_word(word);
    }));
}

Task<void> OperatorDesk::salvage() {
    return on_session(deliver(shared_, [](OwnershipRunner& runner) { return runner.salvage(); }));
}

} // namespace wherry::migrate
