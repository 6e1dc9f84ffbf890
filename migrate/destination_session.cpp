// SPDX-License-Identifier: Apache-2.0
// How a destination ends. What it does on the way there is in detail/destination_phases.cpp.
#include "migrate/destination_session.hpp"

#include "migrate/detail/destination_flow.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace detail {

using formats::ErrorCode;
using formats::Status;

DestinationSession::DestinationSession(
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
      owner_{
          DestinationOwner::restarted(options_.last_record, options_.policy.ownership_patience())},
      runner_{*owner_, *this, executor},
      intake_{std::move(intake)},
      link_{
          formats::Side::destination,
          executor,
          {.on_word = [this](const event::Received& word, const Control&) { runner_.tell(word); },
           .on_peer_trouble = [this] { explain_owner(); },
           .on_missing = [this](dirtylog::DirtySet missing) { missing_ = std::move(missing); },
           .on_placed = {},
           .on_lost =
               [this](const formats::Error& error) {
                   on_link_lost(error);
               }}},
      running_{executor},
      helpers_{executor},
      phases_ended_{executor},
      patience_{executor} {
    arrival_.migration_id = intake_->name().migration_id;
}

Task<DestinationOutcome> DestinationSession::run() {
    const PromptSession prompt{options_.threads, worker_};
    running_.start(runner_.run());
    if (options_.desk != nullptr) {
        options_.desk->attach(runner_);
    }
    Status ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    transport::TaskGroup main{executor_};
    main.start(phases(), [&ended](const Status& outcome) { ended = outcome; });
    stop_ = [this, &main] {
        is_stopping_ = true;
        main.cancel();
        if (pages_ && !is_offered_) {
            pages_->close();
        }
        if (!is_offered_ && link_.has_channel()) {
            link_.channel().hurry(options_.policy.farewell_limit());
        }
    };
    gate_.on_request(stop_);
    // The outcome arrives through `ended`, whatever it is.
    auto joined = co_await main.join();
    (void)joined;
    gate_.on_request({});
    stop_ = {};
    phases_ended_.notify_all();
    if (is_offered_) {
        if (!ended) {
            runner_.tell(event::Failed{ended.error().text()});
        }
        auto over = co_await runner_.wait_until([this] { return is_over(); });
        (void)over;
    }
    co_return co_await conclude(std::move(ended));
}

void DestinationSession::interrupt(const formats::Error& error) {
    // What ends because it was told to end is no news.
    if (stop_ && !is_stopping_) {
        interruption_ = error;
        stop_();
    }
}

/// Why the VM is not here, or not known to be.
Task<formats::Error> DestinationSession::explain_failure(Status ended) {
    if (ended) {
        ended = formats::fail(
            state_.state() == DestinationState::in_doubt ? ErrorCode::in_doubt : ErrorCode::refused,
            link_.with_peer_trouble(owner_->status().sentence));
        if (loss_) {
            ended = formats::fail(*loss_);
        }
    }
    if (gate_.is_requested() && ended.error().code() == ErrorCode::cancelled) {
        // Whatever wait it was that the request ended.
        ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    }
    if (interruption_ && ended.error().code() == ErrorCode::cancelled && !gate_.is_requested()) {
        ended = formats::fail(*interruption_);
    }
    co_await link_.hear_last_words(ended, options_.policy.farewell_limit());
    co_return std::move(ended).error();
}

/// The one place that says how it ended. Who has the VM is the owner's word; before it was offered
/// it has not been asked, and the source has it.
Task<DestinationOutcome> DestinationSession::conclude(Status ended) {
    DestinationOutcome outcome;
    const auto failed_in = state_.state();
    if (!is_offered_) {
        enter(DestinationState::abandoned);
    } else if (is_given_up_for_now() && state_.state() != DestinationState::in_doubt) {
        follow(DestinationState::in_doubt);
    }
    if (state_.state() != DestinationState::done) {
        auto why = co_await explain_failure(std::move(ended));
        if (start_failure_ && why) {
            why = *start_failure_;
        }
        if (state_.state() == DestinationState::salvaged) {
            why = std::move(*why).during("the VM was salvaged");
        }
        outcome.error = std::move(*why).at(phase_of(failed_in), formats::Side::destination);
    }
    if (options_.desk != nullptr) {
        options_.desk->detach();
    }
    runner_.stop();
    auto ran = co_await running_.join();
    (void)ran;
    co_await helpers_.end();
    // Before the other channels: a source that serves pages takes a loss of those for a loss of
    // all.
    auto said = co_await say_goodbye(outcome.error);
    if (!said) {
        progress_.note("saying goodbye: " + said.error().text());
    }
    co_await end_recovery();
    co_await end_pages();
    if (memory_) {
        progress_.set_faults(memory_->report());
        if (memory_->missing_count() == formats::PageCount{0}) {
            auto disarm = [this] {
                return memory_->disarm();
            };
            auto disarmed = co_await on_worker(disarm);
            if (!disarmed) {
                progress_.note(disarmed.error().text());
            }
        }
    }
    if (state_.state() == DestinationState::abandoned) {
        co_await drop_machine();
    }
    if (state_.state() == DestinationState::in_doubt) {
        outcome.error =
            formats::Error{ErrorCode::in_doubt, link_.with_peer_trouble(owner_->status().sentence)}
                .at(formats::Phase::handover, formats::Side::destination);
    }
    if (state_.state() == DestinationState::salvaged && memory_) {
        outcome.missing = memory_->missing();
    }
    outcome.machine = std::move(machine_);
    outcome.epoch = owner_->epoch();
    outcome.arrival = std::move(arrival_);
    outcome.state = state_.state();
    outcome.custody = is_offered_ ? owner_->status().custody : custody_of(state_.state());
    outcome.report = progress_.report();
    if (state_.state() == DestinationState::in_doubt) {
        outcome.doubt = std::make_unique<InDoubtGuest>(
            std::move(owner_),
            *options_.keeper,
            Keep::destination,
            [machine = outcome.machine.get(), stays = plan_.stays_paused] {
                return stays ? Status{} : machine->resume();
            });
    }
    co_return outcome;
}

Task<void> DestinationSession::say_goodbye(const std::optional<formats::Error>& error) {
    if (!link_.has_channel()) {
        co_return Status{};
    }
    const bool was_up = link_.is_up();
    auto rested = co_await link_.rest();
    (void)rested;
    if (state_.state() == DestinationState::done) {
        // Also where the source has said its goodbye already.
        auto said = co_await link_.channel().finish(options_.policy.farewell_limit());
        co_return was_up ? said : Status{};
    }
    co_return co_await link_.channel().fail(*error, options_.policy.farewell_limit());
}

/// Giving back gigabytes takes time that the I/O thread should not spend.
Task<void> DestinationSession::drop_machine() {
    auto drop = [this]() -> Status {
        memory_.reset();
        machine_.reset();
        return {};
    };
    co_return co_await on_worker(drop);
}

} // namespace detail

namespace {

using transport::Task;

Task<DestinationOutcome> run_session(
    std::unique_ptr<Intake> intake,
    DestinationOptions options,
    CancelGate& gate,
    Observer& observer) {
    auto executor = co_await boost::asio::this_coro::executor;
    detail::DestinationSession session{
        std::move(intake), std::move(options), gate, observer, executor};
    co_return co_await session.run();
}

} // namespace

Task<DestinationOutcome> run_destination(
    std::unique_ptr<Intake> intake,
    DestinationOptions options,
    CancelGate& gate,
    Observer& observer) {
    auto session = run_session(std::move(intake), std::move(options), gate, observer);
    co_return co_await transport::shielded(std::move(session));
}

} // namespace wherry::migrate
