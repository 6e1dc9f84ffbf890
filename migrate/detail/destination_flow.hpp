// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/control_link.hpp"
#include "migrate/destination_session.hpp"
#include "migrate/incoming_pages.hpp"
#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/runner.hpp"
#include "migrate/plan.hpp"
#include "migrate/postcopy/arriving_memory.hpp"
#include "migrate/postcopy/urgent_lane.hpp"
#include "migrate/prompt_session.hpp"
#include "migrate/session_channel.hpp"
#include "transport/alarm.hpp"
#include "transport/task_group.hpp"
#include "vmm/saved_state.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <boost/asio/thread_pool.hpp>

namespace wherry::migrate::detail {

using transport::Task;

/// One migration from the destination's side. phases() is the table of contents up to the moment at
/// which everything is loaded; from the offer on the DestinationOwner says what happens, and this
/// carries it out (OwnershipHands). How it ended is judged in conclude().
class DestinationSession final : public OwnershipHands {
public:
    DestinationSession(
        std::unique_ptr<Intake> intake,
        DestinationOptions options,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor);

    Task<DestinationOutcome> run();

private:
    // destination_phases.cpp
    Task<void> phases();
    Task<void> listen();
    Task<void> plan();
    Task<void> gather();
    Task<void> fill();
    Task<void> take_offer();
    Task<void> load();

    Task<void> check_plan(const formats::proto::Plan& message);
    Task<void> make_machine();
    Task<void> consult_arbiter();
    Task<void> answer_plan();
    Task<void> restore(const vmm::MachineState& state);
    Task<void> watch_pages();
    void count_pages();
    /// The next channel of this role that the source opens, a lost one that comes back included;
    /// any number of times.
    Task<OpenedChannel> next_channel(ChannelRole role, Duration limit) {
        return intake_->next_channel(role, limit);
    }
    Task<Control> expect(Control::MessageCase kind, Duration limit) {
        return link_.inbox().expect(kind, limit);
    }
    /// Ends the phases, from outside them, with this.
    void interrupt(const formats::Error& error);

    // destination_handover.cpp
    void on_link_lost(const formats::Error& error);
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

    // destination_faulting.cpp
    Task<void> arm();
    Task<void> take_urgent();
    void fetch_urgent();
    void take_pushed();
    Task<void> wait_for_return();
    Task<void> take_channels_again();
    void lose_pages(const formats::Error& error);
    void on_complete();
    Task<void> end_pages();
    Task<void> end_recovery();

    // destination_session.cpp
    Task<DestinationOutcome> conclude(formats::Status ended);
    Task<formats::Error> explain_failure(formats::Status ended);
    Task<void> say_goodbye(const std::optional<formats::Error>& error);
    Task<void> drop_machine();

    void enter(DestinationState state) {
        state_.enter(state);
        progress_.enter(phase_of(state));
    }
    void follow(DestinationState state) {
        state_.follow(state);
        progress_.enter(phase_of(state));
    }
    template <typename Call>
    auto on_worker(Call call) {
        return transport::offload(worker_.get_executor(), std::move(call));
    }

    DestinationOptions options_;
    CancelGate& gate_;
    transport::Executor executor_;
    boost::asio::thread_pool worker_;
    Progress progress_;
    DestinationMachine state_;
    std::unique_ptr<DestinationOwner> owner_;
    OwnershipRunner runner_;

    std::unique_ptr<Intake> intake_;
    ControlLink link_;
    transport::TaskGroup running_; ///< the runner
    transport::TaskGroup helpers_; ///< count and acknowledge pages, wait for the source's return
    std::function<void()> stop_;   ///< ends the phases as cancelled
    bool is_stopping_ = false;
    transport::Notification phases_ended_;       ///< when stop_ is empty
    std::optional<formats::Error> interruption_; ///< ended them

    Plan plan_;
    std::uint32_t streams_ = 0;
    HostOffer offer_;
    Arrival arrival_;
    std::unique_ptr<vmm::Machine> machine_;
    std::optional<IncomingPages> pages_;
    std::optional<transport::TaskGroup> page_tasks_; ///< what uses pages_; ends before it does
    std::optional<transport::TaskGroup> recovery_;   ///< opens them again; ends before the next one
    std::vector<std::byte> state_bytes_;
    std::optional<dirtylog::DirtySet> missing_; ///< as named by the source

    UrgentBell urgent_wake_; ///< of memory_
    std::unique_ptr<ArrivingMemory> memory_;
    std::unique_ptr<UrgentLane> urgent_;
    PageCounters urgent_counters_;
    bool is_offered_ = false; ///< the owner has been told
    Epoch offered_epoch_{};
    bool is_faulting_ = false;
    bool is_waiting_for_return_ = false; ///< of the source
    bool source_has_memory_ = true;      ///< false: it has started again
    std::optional<formats::Error> loss_; ///< of the last connection
    std::optional<formats::Error> start_failure_;
    transport::Alarm patience_; ///< of the user, for a connection to come back
    bool has_no_patience_left_ = false;
};

} // namespace wherry::migrate::detail
