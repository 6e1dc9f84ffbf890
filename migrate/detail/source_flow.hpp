// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_rate.hpp"
#include "dirtylog/dirty_tracker.hpp"
#include "migrate/bandwidth_limit.hpp"
#include "migrate/control_inbox.hpp"
#include "migrate/convergence.hpp"
#include "migrate/detail/guest_throttle.hpp"
#include "migrate/outgoing_pages.hpp"
#include "migrate/session_channel.hpp"
#include "migrate/source_session.hpp"
#include "transport/task_group.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

namespace wherry::migrate::detail {

using transport::Task;

/// One migration from the source's side: interprets SourceMachine and SourceHandover. phases() is
/// the table of contents; whatever fails in it is judged in conclude(), by the state it failed in.
class SourceSession {
public:
    SourceSession(
        vmm::Machine& machine,
        SourceOptions options,
        Connector connect,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor)
        : machine_{machine},
          options_{std::move(options)},
          connector_{std::move(connect)},
          gate_{gate},
          executor_{executor},
          worker_{1},
          progress_{observer, machine.memory().size(), options_.policy.downtime},
          handover_{options_.epoch},
          limit_{executor},
          helpers_{executor},
          convergence_{options_.policy},
          throttle_{machine},
          deadline_{executor} {
        limit_.set_rate(options_.policy.bandwidth);
    }

    Task<SourceOutcome> run();

private:
    Task<void> phases();
    Task<void> connect();
    Task<void> plan();
    Task<void> open_bulk();
    Task<void> precopy();
    Task<void> drain();
    Task<void> hand_over();

    void adopt(const Policy& policy);
    void arm_deadline();
    void slow_down(unsigned percent);
    [[nodiscard]] std::string explain_lateness() const;

    /// Opens a channel of this migration on the awaiting task's thread; any number of times.
    Task<std::unique_ptr<SessionChannel>> open_channel(ChannelRole role, std::uint32_t index);
    /// Ends the phases, from outside them, with this.
    void interrupt(const formats::Error& error);
    Task<void> watch_pages();
    void count_pages();

    Task<void> take_answer(const formats::proto::PlanAnswer& answer);
    Task<void> start_tracking();
    Task<void> send_round(const dirtylog::DirtySet& pages, Pace pace, bool is_last);
    Task<void> collect();
    [[nodiscard]] formats::Result<Decision> judge_round();
    Task<void> send_state();
    Task<void> commit();
    formats::Status check_guest() const;

    Task<SourceOutcome> conclude(formats::Status ended);
    Task<void> hear_last_words(formats::Status& ended);
    Task<void> go_on_here();
    Task<void> stop_tracking();
    Task<void> stop_helpers();
    Task<void> end_pages();

    void enter(SourceState state) {
        state_.enter(state);
        progress_.enter(phase_of(state));
    }
    template <typename Call>
    auto on_worker(Call call) {
        return transport::offload(worker_.get_executor(), std::move(call));
    }
    Task<Control> expect(Control::MessageCase kind, Duration limit) {
        return inbox_->expect(kind, limit);
    }

    vmm::Machine& machine_;
    SourceOptions options_;
    Connector connector_;
    CancelGate& gate_;
    transport::Executor executor_;
    boost::asio::thread_pool worker_;
    Progress progress_;
    SourceMachine state_;
    SourceHandover handover_;
    BandwidthLimit limit_;

    std::unique_ptr<SessionChannel> channel_;
    std::optional<ControlInbox> inbox_;
    std::uint32_t streams_ = 0;    ///< as agreed on
    std::optional<Ticket> ticket_; ///< for every channel but the first
    transport::TaskGroup helpers_; ///< listens, keeps alive, counts pages
    std::optional<OutgoingPages> pages_;
    PageCounters::Sums counted_; ///< of the pages, as progress_ knows
    bool needs_pages_ = true;    ///< a lost bulk channel ends the migration

    std::unique_ptr<dirtylog::DirtyTracker> tracker_;
    std::optional<dirtylog::DirtySet> dirty_; ///< what is to be sent in the next round
    dirtylog::DirtyRate dirty_rate_;
    std::uint32_t failed_collects_ = 0;
    Duration collecting_{};
    std::uint32_t round_ = 0;
    RoundTotals last_round_;
    Duration last_round_took_{};
    Convergence convergence_;
    GuestThrottle throttle_;
    boost::asio::steady_timer deadline_;
    std::function<void()> stop_; ///< ends the phases as cancelled
    bool is_stopping_ = false;
    bool is_late_ = false;                       ///< the deadline ended them
    std::optional<formats::Error> interruption_; ///< ended them

    std::optional<PausedGuest> paused_;
    std::optional<GivenUpGuest> given_up_;
    Progress::Clock::time_point stopped_at_; ///< of the blackout's part now under way
};

} // namespace wherry::migrate::detail
