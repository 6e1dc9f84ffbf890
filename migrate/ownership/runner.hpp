// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/owner.hpp"
#include "transport/alarm.hpp"
#include "transport/notification.hpp"
#include "transport/task_group.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include <boost/asio/thread_pool.hpp>

namespace wherry::migrate {

/// What a session can do for an Owner. All on the session's thread but for the first two.
class OwnershipHands {
public:
    OwnershipHands() = default;
    OwnershipHands(const OwnershipHands&) = delete;
    OwnershipHands& operator=(const OwnershipHands&) = delete;

    /// Durable on return. On a thread of the runner's; blocks for as long as the disk takes.
    virtual formats::Status write_record(const OwnershipRecord& record) = 0;
    /// Requests what is wanted and reads the record after it. On another thread of the runner's;
    /// ends by itself after a limit of its own.
    virtual formats::Result<std::optional<ArbiterRecord>>
    ask_arbiter(const action::AskArbiter& question) = 0;

    /// Where there is no connection: nothing.
    virtual transport::Task<void> send_word(MessageKind kind, Epoch epoch) = 0;
    virtual transport::Task<void> start_guest(bool from_memory) = 0;
    virtual transport::Task<void> stop_guest() = 0;
    virtual transport::Task<void> drop_memory() = 0;
    /// Before a person gives the VM up for good: stops its guest, where one runs here, or fails in
    /// a moment and lets it go on.
    virtual transport::Task<void> try_stop_guest() = 0;
    /// It goes on after try_stop_guest(): the Owner refused.
    virtual transport::Task<void> let_guest_go_on() = 0;
    /// Begins to; the session tells Connected or Disconnected later.
    virtual void reconnect() = 0;
    /// The Owner has taken something in: its state may be another.
    virtual void owner_moved() = 0;

protected:
    ~OwnershipHands() = default;
};

/// Carries out what an Owner wants, one action after the other, and gives back what came of it.
/// One thread, the session's, but for its own two that wait for the disk and for the arbiter.
class OwnershipRunner {
public:
    /// Both outlive it.
    OwnershipRunner(Owner& owner, OwnershipHands& hands, const transport::Executor& executor);

    /// Until stop(). Not cancelled by the session's cancel: a record that is being written, a guest
    /// that is being started, are things to be finished.
    transport::Task<void> run();
    /// After what is under way, run() ends.
    void stop();

    /// In the order in which they are told.
    void tell(OwnershipEvent event);
    /// Calls `person` with the Owner between two events, carries its actions out, and answers.
    transport::Task<void>
    at_a_persons_word(std::function<formats::Result<OwnershipActions>(Owner&)> person);

    /// As a person's word: what is left of the VM here may be written. Refused where its guest
    /// cannot be stopped.
    transport::Task<void> salvage();

    /// Waits until `holds`, which is looked at whenever the Owner has taken something in, and after
    /// look_again().
    transport::Task<void> wait_until(std::function<bool()> holds);
    void look_again() { moved_.notify_all(); }

private:
    enum class GuestIs : std::uint8_t { as_it_is, stopped_before };
    struct Wish {
        std::function<formats::Result<OwnershipActions>(Owner&)> person;
        GuestIs guest = GuestIs::as_it_is;
        /// Shared with who waits for it, who may be cancelled before.
        std::shared_ptr<std::optional<formats::Status>> answer;
    };

    transport::Task<void> carry_out(OwnershipActions actions);
    transport::Task<void> carry_out(const OwnershipAction& action);
    transport::Task<void> write(OwnershipRecord record);
    transport::Task<void> start(bool from_memory);
    transport::Task<void> ask(action::AskArbiter question);
    transport::Task<void> grant_wishes();
    transport::Task<void> grant(const Wish& wish);
    transport::Task<void> make_wish(Wish wish);
    void arm(const action::Arm& alarm);
    transport::Alarm& alarm_of(action::Timer timer);

    Owner& owner_;
    OwnershipHands& hands_;
    boost::asio::thread_pool disk_{1};
    boost::asio::thread_pool arbiter_{1};
    std::deque<OwnershipEvent> events_;
    std::deque<Wish> wishes_;
    transport::Notification news_;  ///< for run()
    transport::Notification moved_; ///< for who waits for a state
    transport::Alarm wait_alarm_, retry_alarm_;
    transport::TaskGroup asking_;
    bool is_stopped_ = false;
};

} // namespace wherry::migrate
