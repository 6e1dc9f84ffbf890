// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/control_link.hpp"
#include "migrate/ownership/keeper.hpp"
#include "migrate/ownership/owner.hpp"
#include "migrate/ownership/runner.hpp"
#include "transport/task_group.hpp"

#include <functional>
#include <memory>

#include <boost/asio/thread_pool.hpp>

namespace wherry::migrate {

struct AftermathOptions {
    /// Required.
    std::unique_ptr<Owner> owner;
    /// Outlives the aftermath. Required.
    OwnershipKeeper* keeper = nullptr;
    /// On a source: reaches the destination, any number of times. Empty on a destination.
    std::function<transport::Task<std::unique_ptr<SessionChannel>>()> call_peer{};
    /// Of the hand-over, for a source.
    Attempt attempt{};
    /// Starts the guest afresh; blocks, on a thread of the aftermath's. Empty: it cannot be.
    std::function<formats::Status()> boot{};
    /// The owner has taken something in.
    std::function<void()> on_moved{};
};

/// One side of a hand-over that has no session, because it has ended or because its process has
/// started again: the owner alone, which asks the other side or answers it. There is no guest, and
/// no page of one. One thread.
class Aftermath final : public OwnershipHands {
public:
    Aftermath(formats::Side us, AftermathOptions options, const transport::Executor& executor);

    /// Until `is_over`, which is looked at whenever the owner has taken something in or the
    /// connection is gone, or until stop(). What is being written is finished. Once.
    transport::Task<void> run(std::function<bool()> is_over);
    void stop();

    /// On a destination: a source that asks, and what it says of itself.
    transport::Task<void> take(std::unique_ptr<SessionChannel> channel, Attempt peers);
    /// A person's word. `on_done`: what it led to has been carried out.
    void
    say(std::function<formats::Result<OwnershipActions>(Owner&)> word,
        std::function<void()> on_done);

    [[nodiscard]] const Owner& owner() const noexcept { return *options_.owner; }
    [[nodiscard]] OwnershipRunner& runner() noexcept { return runner_; }
    [[nodiscard]] bool is_connected() const noexcept { return link_.is_up(); }

private:
    formats::Status write_record(const OwnershipRecord& record) override;
    formats::Result<std::optional<ArbiterRecord>>
    ask_arbiter(const action::AskArbiter& question) override;
    transport::Task<void> send_word(MessageKind kind, Epoch epoch) override;
    transport::Task<void> start_guest(bool from_memory) override;
    transport::Task<void> stop_guest() override;
    transport::Task<void> drop_memory() override;
    transport::Task<void> try_stop_guest() override;
    transport::Task<void> let_guest_go_on() override;
    void reconnect() override;
    void owner_moved() override;

    transport::Task<void> call();

    AftermathOptions options_;
    boost::asio::thread_pool worker_{1};
    OwnershipRunner runner_;
    ControlLink link_;
    transport::TaskGroup helpers_;
    bool is_stopped_ = false;
};

} // namespace wherry::migrate
