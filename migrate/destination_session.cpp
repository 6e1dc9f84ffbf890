// SPDX-License-Identifier: Apache-2.0
#include "migrate/destination_session.hpp"

#include "migrate/detail/phase_order.hpp"
#include "migrate/host_memory.hpp"
#include "migrate/page_receiver.hpp"
#include "migrate/plan.hpp"
#include "migrate/session_channel.hpp"
#include "transport/task_group.hpp"
#include "vmm/saved_state.hpp"

#include <array>
#include <utility>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using formats::Status;
using transport::Task;

/// Between two things worth telling from the source; keep-alives are not. Longer than any round
/// trip through its machine.
constexpr Duration patience = std::chrono::minutes{2};

/// One migration from the destination's side: interprets DestinationMachine and
/// DestinationHandover. What a failure means is judged in conclude(), by the state it came in.
class DestinationSession {
public:
    DestinationSession(
        std::unique_ptr<transport::ByteStream> stream,
        DestinationOptions options,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor)
        : options_{std::move(options)},
          gate_{gate},
          executor_{executor},
          worker_{1},
          progress_{observer, formats::Bytes{0}, options_.policy.downtime},
          channel_{std::move(stream), formats::Side::destination, options_.policy.silence},
          helpers_{executor} {}

    Task<DestinationOutcome> run();

private:
    Task<void> phases();
    Task<void> open();
    Task<void> plan();
    Task<void> fill();
    Task<void> load();
    Task<void> accept();
    Task<void> start();

    Task<void> check_plan(const formats::proto::Plan& message);
    Task<void> make_machine();
    Task<void> take_control(const formats::FrameHeader& header);
    Task<void> take_state(const formats::FrameHeader& header);
    Task<void> restore(const vmm::MachineState& state);

    Task<DestinationOutcome> conclude(Status ended);
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
    std::optional<DestinationHandover> handover_;

    SessionChannel channel_;
    transport::TaskGroup helpers_; ///< keeps alive

    Plan plan_;
    HostOffer offer_;
    std::optional<Arrival> arrival_;
    std::unique_ptr<vmm::Machine> machine_;
    std::optional<PageReceiver> receiver_;
    bool pages_are_complete_ = false;
    std::vector<std::byte> state_bytes_;
    bool source_took_it_back_ = false; ///< by its own word, after we had accepted
};

Task<void> DestinationSession::phases() {
    using Phase = Task<void> (DestinationSession::*)();
    constexpr std::array<Phase, 6> phases{
        &DestinationSession::open,
        &DestinationSession::plan,
        &DestinationSession::fill,
        &DestinationSession::load,
        &DestinationSession::accept,
        &DestinationSession::start};
    co_return co_await detail::in_order(*this, phases);
}

Task<void> DestinationSession::open() {
    auto checked = options_.policy.check();
    if (!checked) {
        co_return checked;
    }
    auto name = co_await channel_.open_as_destination();
    if (!name) {
        co_return formats::fail(std::move(name).error());
    }
    handover_.emplace(name->epoch);
    arrival_.emplace();
    arrival_->migration_id = name->migration_id;
    helpers_.start(channel_.keep_alive());
    co_return Status{};
}

Task<void> DestinationSession::plan() {
    enter(DestinationState::plan);
    auto message =
        co_await transport::within(options_.policy.plan_deadline, channel_.expect(Control::kPlan));
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    auto step = co_await check_plan(message->plan());
    if (!step) {
        co_return step;
    }
    step = co_await make_machine();
    if (!step) {
        co_return step;
    }
    auto found = findings(plan_, offer_);
    Control answer;
    auto& good = *answer.mutable_plan_answer();
    good.set_backend(options_.host.name);
    good.set_available_memory_bytes(offer_.available_memory.value());
    for (const std::string& finding : found) {
        good.add_findings(finding);
    }
    progress_.planned(std::move(found));
    co_return co_await channel_.send(answer);
}

/// Everything that speaks against the VM is said at once, before anything is made for it.
Task<void> DestinationSession::check_plan(const formats::proto::Plan& message) {
    auto plan = from_proto(message);
    if (!plan) {
        co_return formats::fail(std::move(plan).error());
    }
    plan_ = *std::move(plan);
    arrival_->vm_name = plan_.vm_name;
    arrival_->source_backend = plan_.backend;
    arrival_->config = plan_.config;
    progress_.set_memory(plan_.config.memory);
    const auto measure =
        options_.available_memory
            ? options_.available_memory
            : std::function<formats::Result<formats::Bytes>()>{host_memory_headroom};
    auto available = co_await on_worker(measure);
    if (!available) {
        co_return formats::fail(std::move(available).error());
    }
    offer_ = HostOffer{options_.host, *available};
    co_return accept_plan(plan_, offer_);
}

Task<void> DestinationSession::make_machine() {
    auto make = [this] {
        return options_.make_machine(*arrival_);
    };
    auto machine = co_await on_worker(make);
    if (!machine) {
        co_return formats::fail(std::move(machine).error().during("making the VM"));
    }
    machine_ = *std::move(machine);
    auto checked = check_layout(plan_, machine_->memory());
    if (!checked) {
        co_return checked;
    }
    receiver_.emplace(machine_->memory(), channel_, progress_, worker_.get_executor());
    co_return Status{};
}

Task<void> DestinationSession::take_control(const formats::FrameHeader& header) {
    auto message = co_await channel_.take_control(header);
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    if (message->has_keep_alive()) {
        co_return Status{};
    }
    if (!message->has_round_end() || pages_are_complete_) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} sent {} while pages were due",
                channel_.peer(),
                name_of(message->message_case())));
    }
    const formats::proto::RoundEnd& end = message->round_end();
    auto checked = co_await receiver_->end_round(end);
    if (!checked) {
        co_return checked;
    }
    if (end.is_last()) {
        pages_are_complete_ = true;
        co_return Status{};
    }
    Control answer;
    answer.mutable_round_stored()->set_round(end.round());
    co_return co_await channel_.send(answer);
}

Task<void> DestinationSession::take_state(const formats::FrameHeader& header) {
    if (!pages_are_complete_) {
        co_return formats::fail(
            ErrorCode::protocol, "the state of the VM came before the last of its pages");
    }
    // Bounded by payload_limit of its frame.
    state_bytes_.resize(header.payload_length.value());
    auto taken = co_await channel_.bounded(channel_.take_part(state_bytes_));
    if (!taken) {
        co_return taken;
    }
    co_return channel_.finish_payload(header);
}

Task<void> DestinationSession::fill() {
    enter(DestinationState::filling);
    auto last_word = progress_.now();
    while (true) {
        auto header = co_await channel_.receive();
        if (!header) {
            co_return formats::fail(std::move(header).error());
        }
        if (header->type == formats::FrameType::machine_state) {
            co_return co_await take_state(*header);
        }
        Status taken;
        if (header->type == formats::FrameType::control) {
            taken = co_await take_control(*header);
        } else if (pages_are_complete_) {
            taken =
                formats::fail(ErrorCode::protocol, "pages of the VM came after the last of them");
        } else {
            taken = co_await receiver_->take(*header);
            last_word = progress_.now();
        }
        if (!taken) {
            co_return taken;
        }
        if (progress_.now() - last_word > patience) {
            co_return formats::fail(
                ErrorCode::timed_out,
                "the source is there but has sent nothing of the VM for two minutes");
        }
    }
}

Task<void> DestinationSession::restore(const vmm::MachineState& state) {
    auto work = [this, &state] {
        return machine_->restore(state);
    };
    co_return co_await on_worker(work);
}

Task<void> DestinationSession::load() {
    auto state = vmm::decode_machine_state(state_bytes_);
    if (!state) {
        co_return formats::fail(std::move(state).error());
    }
    const auto begun = progress_.now();
    auto restored = co_await restore(*state);
    if (!restored) {
        co_return formats::fail(std::move(restored).error().during("restoring the VM's state"));
    }
    const auto took = progress_.now() - begun;
    progress_.blackout().load = took;
    enter(DestinationState::loaded);
    Control answer;
    answer.mutable_loaded()->set_restore_us(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    co_return co_await channel_.send(answer);
}

/// From the moment the acceptance is on its way this side cannot know whether the VM is its own,
/// until the source says so. Only the source's own word that it took the VM back ends that.
Task<void> DestinationSession::accept() {
    const Duration limit = options_.policy.handover_deadline;
    auto offer = co_await transport::within(limit, channel_.expect(Control::kOffer));
    if (!offer) {
        co_return formats::fail(std::move(offer).error());
    }
    auto step = handover_->on_offer(Epoch{offer->offer().epoch()});
    if (!step) {
        co_return step;
    }
    if (!gate_.close()) {
        co_return formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    }
    enter(DestinationState::accepted);
    Control answer;
    answer.mutable_accept()->set_epoch(static_cast<std::uint64_t>(handover_->accept()));
    step = co_await channel_.send(answer);
    if (!step) {
        co_return step;
    }
    auto commit = co_await transport::within(limit, channel_.expect(Control::kCommit));
    if (!commit) {
        source_took_it_back_ = channel_.peer_has_failed();
        co_return formats::fail(std::move(commit).error());
    }
    co_return handover_->on_commit(Epoch{commit->commit().epoch()});
}

/// The VM is ours. That its source is told may fail without a consequence on this side.
Task<void> DestinationSession::start() {
    formats::invariant(handover_->may_run(), "the destination runs with the commit in hand only");
    enter(DestinationState::running);
    if (!plan_.stays_paused) {
        auto resume = [this] {
            return machine_->resume();
        };
        auto resumed = co_await on_worker(resume);
        if (!resumed) {
            co_return formats::fail(std::move(resumed).error().during("starting the VM"));
        }
    }
    enter(DestinationState::done);
    Control answer;
    answer.mutable_running()->set_epoch(static_cast<std::uint64_t>(handover_->epoch()));
    auto told = co_await channel_.send(answer);
    if (!told) {
        progress_.note(
            "the VM runs here, and the source could not be told (it is in doubt): " +
            told.error().text());
    }
    co_return Status{};
}

Task<DestinationOutcome> DestinationSession::run() {
    Status ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    transport::TaskGroup main{executor_};
    main.start(phases(), [&ended](const Status& outcome) { ended = outcome; });
    gate_.on_request([this, &main] {
        main.cancel();
        channel_.hurry(options_.policy.farewell_limit());
    });
    // The outcome arrives through `ended`, whatever it is.
    auto joined = co_await main.join();
    gate_.on_request({});
    (void)joined;
    co_return co_await conclude(std::move(ended));
}

/// The one place that says what a failure means, by the state it came in.
Task<DestinationOutcome> DestinationSession::conclude(Status ended) {
    DestinationOutcome outcome;
    if (!ended && state_.state() != DestinationState::done) {
        if (gate_.is_requested() && ended.error().code() == ErrorCode::cancelled) {
            // Whatever wait it was that the request ended.
            ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
        }
        outcome.error =
            std::move(ended).error().at(phase_of(state_.state()), formats::Side::destination);
        enter(source_took_it_back_ ? DestinationState::abandoned : after_failure(state_.state()));
    }
    if (receiver_) {
        // Its failure is the phase's, or of no interest any more.
        auto settled = co_await receiver_->settle();
        (void)settled;
    }
    helpers_.cancel();
    // What keep_alive ended with shows in every other send too.
    auto joined = co_await helpers_.join();
    (void)joined;
    auto said = co_await say_goodbye(outcome.error);
    if (!said) {
        progress_.note("saying goodbye: " + said.error().text());
    }
    if (state_.state() == DestinationState::abandoned) {
        co_await drop_machine();
    }
    outcome.machine = std::move(machine_);
    outcome.epoch = handover_ ? handover_->epoch() : Epoch{};
    if (state_.state() == DestinationState::in_doubt) {
        outcome.doubt.emplace(*outcome.machine, Keep::destination, outcome.epoch);
        outcome.error =
            formats::Error{
                ErrorCode::in_doubt,
                fmt::format(
                    "the VM was accepted as epoch {}, and then: {}; it stays paused here until "
                    "someone "
                    "has looked at the source and decided with 'wherry resolve'",
                    static_cast<std::uint64_t>(outcome.epoch),
                    outcome.error->text())}
                .at(formats::Phase::handover, formats::Side::destination);
    }
    outcome.arrival = std::move(arrival_);
    outcome.state = state_.state();
    outcome.custody = state_.custody();
    outcome.report = progress_.report();
    co_return outcome;
}

Task<void> DestinationSession::say_goodbye(const std::optional<formats::Error>& error) {
    if (state_.state() == DestinationState::done) {
        co_return co_await channel_.finish(options_.policy.farewell_limit());
    }
    co_return co_await channel_.fail(*error, options_.policy.farewell_limit());
}

/// Giving back gigabytes takes time that the I/O thread should not spend.
Task<void> DestinationSession::drop_machine() {
    receiver_.reset();
    auto drop = [this]() -> Status {
        machine_.reset();
        return {};
    };
    co_return co_await on_worker(drop);
}

Task<DestinationOutcome> run_session(
    std::unique_ptr<transport::ByteStream> stream,
    DestinationOptions options,
    CancelGate& gate,
    Observer& observer) {
    auto executor = co_await boost::asio::this_coro::executor;
    DestinationSession session{std::move(stream), std::move(options), gate, observer, executor};
    co_return co_await session.run();
}

} // namespace

Task<DestinationOutcome> run_destination(
    std::unique_ptr<transport::ByteStream> stream,
    DestinationOptions options,
    CancelGate& gate,
    Observer& observer) {
    auto session = run_session(std::move(stream), std::move(options), gate, observer);
    co_return co_await transport::shielded(std::move(session));
}

} // namespace wherry::migrate
