// SPDX-License-Identifier: Apache-2.0
#include "transport/task_group.hpp"

namespace wherry::transport {

using formats::ErrorCode;
using formats::Status;

TaskGroup::TaskGroup(Executor executor, OnFailure on_failure)
    : executor_{std::move(executor)},
      on_failure_{on_failure},
      state_{std::make_shared<State>(executor_)} {}

TaskGroup::~TaskGroup() {
    cancel();
}

bool TaskGroup::start(Task<void> work, std::function<void(const Status&)> on_done) {
    return start_on(executor_, std::move(work), std::move(on_done));
}

bool TaskGroup::start_on(
    const Executor& there, Task<void> work, std::function<void(const Status&)> on_done) {
    if (state_->is_closed) {
        return false;
    }
    auto child = state_->children.emplace(state_->children.end());
    auto finished = [state = state_,
                     child,
                     on_failure = on_failure_,
                     executor = executor_,
                     report = std::move(on_done)](const Status& outcome) {
        if (report) {
            report(outcome);
        }
        finish(*state, child, on_failure, outcome);
    };
    if (there == executor_) {
        spawn(executor_, std::move(work), std::move(finished), child->signal.slot());
        return true;
    }
    // The child's signal is this thread's: spawn() takes it over to the child's.
    auto home = boost::asio::prefer(executor_, boost::asio::execution::outstanding_work.tracked);
    auto bring_home = [home, finished = std::move(finished)](const Status& outcome) mutable {
        boost::asio::post(home, [outcome, finished = std::move(finished)] { finished(outcome); });
    };
    spawn(there, std::move(work), std::move(bring_home), child->signal.slot());
    return true;
}

void TaskGroup::finish(
    State& state, std::list<Child>::iterator child, OnFailure on_failure, const Status& outcome) {
    state.children.erase(child);
    const bool asked_for =
        state.is_cancelled && !outcome && outcome.error().code() == ErrorCode::cancelled;
    if (!outcome && !asked_for) {
        if (!state.first_failure) {
            state.first_failure = outcome.error();
        }
        if (on_failure == OnFailure::cancel_siblings) {
            cancel(state);
        }
    }
    if (state.children.empty()) {
        state.finished.notify_all();
    }
}

void TaskGroup::close() {
    state_->is_closed = true;
}

void TaskGroup::cancel() {
    cancel(*state_);
}

void TaskGroup::cancel(State& state) {
    state.is_closed = true;
    state.is_cancelled = true;
    for (auto& child : state.children) {
        child.signal.emit(boost::asio::cancellation_type::terminal);
    }
}

Task<void> TaskGroup::join() {
    close();
    auto state = state_;
    Status waited;
    while (!state->children.empty()) {
        waited = co_await state->finished.wait();
        if (!waited) {
            cancel(*state);
            co_await shielded(all_gone(state));
        }
    }
    if (state->first_failure) {
        co_return formats::fail(*state->first_failure);
    }
    co_return waited;
}

Task<void> TaskGroup::all_gone(std::shared_ptr<State> state) {
    while (!state->children.empty()) {
        co_await state->finished.wait();
    }
    co_return Status{};
}

Task<void> TaskGroup::end() {
    cancel();
    auto joined = co_await join();
    (void)joined;
    co_return Status{};
}

std::size_t TaskGroup::running() const noexcept {
    return state_->children.size();
}

} // namespace wherry::transport
