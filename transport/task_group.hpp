// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/notification.hpp"
#include "transport/task.hpp"

#include <functional>
#include <list>
#include <memory>
#include <optional>

namespace wherry::transport {

/// Owns child tasks of one thread. Its owner awaits join() or end() before anything the children
/// refer to dies; the destructor can only cancel.
class TaskGroup {
public:
    enum class OnFailure {
        keep_going,     ///< the others go on
        cancel_siblings ///< the first failure closes the group and cancels all others
    };

    explicit TaskGroup(Executor executor, OnFailure on_failure = OnFailure::keep_going);
    ~TaskGroup();
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;

    /// Starts `work` as a child; `on_done` (may be empty) sees its outcome on the group's thread.
    /// False, and work is dropped unstarted, once the group is closed.
    bool start(Task<void> work, std::function<void(const formats::Status&)> on_done = {});
    /// As start(), with the work on another executor's thread, which must live until the child is
    /// done; `on_done` is called on the group's thread all the same.
    bool start_on(
        const Executor& there,
        Task<void> work,
        std::function<void(const formats::Status&)> on_done = {});
    /// Refuses new children.
    void close();
    /// Closes and asks every child to stop.
    void cancel();
    /// Closes, waits for every child, and reports the first failure of any (`cancelled` after
    /// cancel() or a sibling's failure does not count). When the waiting task is cancelled, the
    /// children are too, and are still waited for; without another failure that is what it reports.
    Task<void> join();
    /// cancel() and join(), where nobody wants to know any more what they failed with.
    Task<void> end();

    [[nodiscard]] std::size_t running() const noexcept;

private:
    struct Child {
        boost::asio::cancellation_signal signal;
    };
    /// Shared by the group and the completion of each child, which may outlive the group.
    struct State {
        explicit State(const Executor& executor) : finished{executor} {}
        std::list<Child> children;
        Notification finished;
        std::optional<formats::Error> first_failure;
        bool is_closed = false;
        bool is_cancelled = false;
    };
    static void cancel(State& state);
    static Task<void> all_gone(std::shared_ptr<State> state);
    static void finish(
        State& state,
        std::list<Child>::iterator child,
        OnFailure on_failure,
        const formats::Status& outcome);

    Executor executor_;
    OnFailure on_failure_;
    std::shared_ptr<State> state_;
};

} // namespace wherry::transport
