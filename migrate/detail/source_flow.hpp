// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/bandwidth_limit.hpp"
#include "migrate/control_link.hpp"
#include "migrate/detail/precopy_rounds.hpp"
#include "migrate/outgoing_pages.hpp"
#include "migrate/ownership/runner.hpp"
#include "migrate/ownership/source_owner.hpp"
#include "migrate/postcopy/push_order.hpp"
#include "migrate/postcopy/urgent_lane.hpp"
#include "migrate/prompt_session.hpp"
#include "migrate/source_session.hpp"
#include "migrate/stopped_guest.hpp"
#include "transport/alarm.hpp"
#include "transport/task_group.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/thread_pool.hpp>

namespace wherry::migrate::detail {

using transport::Task;

/// One migration from the source's side. phases() is the table of contents up to the moment at
/// which the guest stands still and everything is on its way; from there on the SourceOwner says
/// what happens, and this carries it out (OwnershipHands). Whatever fails is judged in conclude().
class SourceSession final : public OwnershipHands {
public:
    SourceSession(
        vmm::Machine& machine,
        SourceOptions options,
        Connector connect,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor);

    Task<SourceOutcome> run();

private:
    // source_phases.cpp
    Task<void> phases();
    Task<void> connect();
    Task<void> consult_arbiter();
    Task<void> plan();
    Task<void> open_bulk();
    Task<void> precopy();
    Task<void> drain();

    void adopt(const Policy& policy);
    void arm_deadline();
    [[nodiscard]] std::string explain_stall() const;
    [[nodiscard]] std::string explain_lateness() const;

    /// Opens a channel of this migration on the awaiting task's thread; any number of times.
    Task<std::unique_ptr<SessionChannel>> open_channel(ChannelRole role, std::uint32_t index);
    /// Ends the phases, from outside them, with this.
    void interrupt(const formats::Error& error);
    [[nodiscard]] bool was_ended_by_owner(const formats::Error& error) const;
    Task<void> watch_pages();
    void count_pages();

    Task<void> take_answer(const formats::proto::PlanAnswer& answer);
    Task<void> send_round(const dirtylog::DirtySet& pages, Pace pace, bool is_last);
    [[nodiscard]] formats::Result<Decision> judge_round(formats::PageCount dirtied);
    formats::Status switch_to_postcopy();
    void break_off(std::string why);
    Task<void> watch_first_pass();
    [[nodiscard]] bool is_in_first_pass() const {
        return state_.state() == SourceState::precopy && round_ == 0 &&
               !rounds_.convergence().is_hurried();
    }
    formats::Status check_guest() const;

    // source_handover.cpp
    Task<void> send_last_pages();
    Task<void> prepare_postcopy();
    Task<void> name_missing_pages(dirtylog::DirtySet left);
    Task<void> send_state();
    void on_word(const event::Received& word, const Control& message);
    void on_link_lost(const formats::Error& error);
    void lose_patience_after(Duration limit);
    [[nodiscard]] bool is_over() const;
    [[nodiscard]] bool is_given_up_for_now() const;

    formats::Status write_record(const OwnershipRecord& record) override;
    formats::Result<std::optional<ArbiterRecord>>
    ask_arbiter(const action::AskArbiter& question) override;
    Task<void> send_word(MessageKind kind, Epoch epoch) override;
    Task<void> start_guest(bool from_memory) override;
    Task<void> stop_guest() override;
    Task<void> drop_memory() override;
    Task<void> try_stop_guest() override;
    Task<void> let_guest_go_on() override;
    void reconnect() override;
    void owner_moved() override;
    void explain_owner();

    // source_serving.cpp
    Task<void> open_urgent();
    Task<void> push();
    Task<void> rejoin();
    Task<void> serve_again(dirtylog::DirtySet missing);
    void on_missing(dirtylog::DirtySet missing);
    void lose_pages(const formats::Error& error);
    Task<void> end_pages();
    Task<void> end_recovery();

    // source_session.cpp
    Task<SourceOutcome> conclude(formats::Status ended);
    Task<formats::Error> explain_failure(formats::Status ended);
    Task<void> say_goodbye(const std::optional<formats::Error>& error);

    void enter(SourceState state) {
        state_.enter(state);
        progress_.enter(phase_of(state));
    }
    void follow(SourceState state) {
        state_.follow(state);
        progress_.enter(phase_of(state));
    }
    template <typename Call>
    auto on_worker(Call call) {
        return transport::offload(worker_.get_executor(), std::move(call));
    }
    Task<Control> expect(Control::MessageCase kind, Duration limit) {
        return link_.inbox().expect(kind, limit);
    }
    [[nodiscard]] Attempt attempt() const;

    vmm::Machine& machine_;
    SourceOptions options_;
    Connector connector_;
    CancelGate& gate_;
    transport::Executor executor_;
    boost::asio::thread_pool worker_;
    Progress progress_;
    SourceMachine state_;
    std::unique_ptr<SourceOwner> owner_;
    OwnershipRunner runner_;
    BandwidthLimit limit_;

    ControlLink link_;
    std::uint32_t streams_ = 0; ///< as agreed on
    /// Why the destination cannot run a guest with pages missing; unset until it has said.
    std::optional<std::string> postcopy_obstacle_;
    std::optional<Ticket> ticket_; ///< for every channel but the first
    transport::TaskGroup running_; ///< the runner
    transport::TaskGroup helpers_; ///< counts pages, pushes, reconnects
    std::optional<OutgoingPages> pages_;
    std::optional<transport::TaskGroup> page_tasks_; ///< what uses pages_; ends before it does
    std::optional<transport::TaskGroup> recovery_;   ///< opens them again; ends before the next one
    bool is_counting_ = false;

    PrecopyRounds rounds_;
    std::optional<dirtylog::DirtySet> dirty_meanwhile_; ///< of the first pass; the worker's, too
    std::uint32_t round_ = 0;
    RoundTotals last_round_;
    Duration last_round_took_{};
    transport::Alarm deadline_;
    std::function<void()> stop_; ///< ends the phases as cancelled
    bool is_stopping_ = false;
    transport::Notification phases_ended_;       ///< when stop_ is empty
    bool is_late_ = false;                       ///< the deadline ended them
    std::optional<formats::Error> interruption_; ///< ended them

    std::optional<StoppedGuest> stopped_;
    std::optional<formats::Error> start_failure_; ///< of a guest that was to go on here
    std::optional<formats::Error> loss_;          ///< of the last connection
    bool leaves_pages_ = false;                   ///< post-copy: the guest goes without some pages
    std::optional<PushOrder> order_;              ///< of these
    std::unique_ptr<UrgentLane> urgent_;
    PageCounters urgent_counters_;
    std::uint32_t push_round_ = 0; ///< its number on the bulk channels there are now
    bool is_pushing_ = false;
    transport::Alarm patience_; ///< of the user, for a connection to come back
    bool has_no_patience_left_ = false;
    bool is_last_word_due_ = false;          ///< that the VM was taken back, over a new connection
    Progress::Clock::time_point stopped_at_; ///< of the blackout's part now under way
};

} // namespace wherry::migrate::detail
