// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/control_inbox.hpp"
#include "migrate/destination_session.hpp"
#include "migrate/incoming_pages.hpp"
#include "migrate/plan.hpp"
#include "migrate/session_channel.hpp"
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

/// One migration from the destination's side: interprets DestinationMachine and
/// DestinationHandover. phases() is the table of contents; what a failure means is judged in
/// conclude(), by the state it came in.
class DestinationSession {
public:
    DestinationSession(
        std::unique_ptr<Intake> intake,
        DestinationOptions options,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor)
        : options_{std::move(options)},
          gate_{gate},
          executor_{executor},
          worker_{1},
          progress_{observer, formats::Bytes{0}, options_.policy.downtime},
          handover_{intake->name().epoch},
          intake_{std::move(intake)},
          channel_{intake_->take_control()},
          inbox_{*channel_, formats::Side::destination, executor},
          helpers_{executor} {
        arrival_.migration_id = intake_->name().migration_id;
    }

    Task<DestinationOutcome> run();

private:
    Task<void> phases();
    Task<void> listen();
    Task<void> plan();
    Task<void> gather();
    Task<void> fill();
    Task<void> load();
    Task<void> accept();
    Task<void> start();

    Task<void> check_plan(const formats::proto::Plan& message);
    Task<void> make_machine();
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
        return inbox_.expect(kind, limit);
    }
    /// Ends the phases, from outside them, with this.
    void interrupt(const formats::Error& error);

    Task<DestinationOutcome> conclude(formats::Status ended);
    Task<void> hear_last_words(formats::Status& ended);
    Task<void> end_pages();
    Task<void> say_goodbye(const std::optional<formats::Error>& error);
    Task<void> drop_machine();

    void enter(DestinationState state) {
        state_.enter(state);
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
    DestinationHandover handover_;

    std::unique_ptr<Intake> intake_;
    std::unique_ptr<SessionChannel> channel_;
    ControlInbox inbox_;
    transport::TaskGroup helpers_; ///< listens, keeps alive, counts and acknowledges pages
    std::function<void()> stop_;   ///< ends the phases as cancelled
    bool is_stopping_ = false;
    std::optional<formats::Error> interruption_; ///< ended them

    Plan plan_;
    std::uint32_t streams_ = 0;
    HostOffer offer_;
    Arrival arrival_;
    std::unique_ptr<vmm::Machine> machine_;
    std::optional<IncomingPages> pages_;
    PageCounters::Sums counted_; ///< of the pages, as progress_ knows
    std::vector<std::byte> state_bytes_;
    bool source_took_it_back_ = false; ///< by its own word, after we had accepted
};

} // namespace wherry::migrate::detail
