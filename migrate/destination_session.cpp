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

Task<DestinationOutcome> DestinationSession::run() {
    Status ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    transport::TaskGroup main{executor_};
    main.start(phases(), [&ended](const Status& outcome) { ended = outcome; });
    stop_ = [this, &main] {
        is_stopping_ = true;
        main.cancel();
        if (pages_) {
            pages_->close();
        }
        channel_->hurry(options_.policy.farewell_limit());
    };
    gate_.on_request(stop_);
    // The outcome arrives through `ended`, whatever it is.
    auto joined = co_await main.join();
    (void)joined;
    gate_.on_request({});
    stop_ = {};
    co_return co_await conclude(std::move(ended));
}

void DestinationSession::interrupt(const formats::Error& error) {
    // What ends because it was told to end is no news.
    if (stop_ && !is_stopping_) {
        interruption_ = error;
        stop_();
    }
}

/// Where the source ended the conversation it may have said why on the control channel, in bytes
/// that are not read yet. Its words are better than our "connection lost".
Task<void> DestinationSession::hear_last_words(Status& ended) {
    if (ended.error().code() != ErrorCode::connection_lost) {
        co_return Status{};
    }
    auto waited = co_await inbox_.wait_for_end(options_.policy.farewell_limit());
    auto heard = inbox_.status();
    if (waited && !heard && channel_->peer_has_failed()) {
        ended = std::move(heard);
    }
    co_return waited;
}

/// Nothing is placed any more when this returns.
Task<void> DestinationSession::end_pages() {
    if (!pages_) {
        co_return Status{};
    }
    pages_->close();
    auto settled = co_await pages_->settle();
    co_return settled;
}

/// The one place that says what a failure means, by the state it came in.
Task<DestinationOutcome> DestinationSession::conclude(Status ended) {
    DestinationOutcome outcome;
    if (!ended && state_.state() != DestinationState::done) {
        if (gate_.is_requested() && ended.error().code() == ErrorCode::cancelled) {
            // Whatever wait it was that the request ended.
            ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
        }
        if (interruption_ && ended.error().code() == ErrorCode::cancelled &&
            !gate_.is_requested()) {
            ended = formats::fail(*interruption_);
        }
        if (state_.state() <= DestinationState::filling) {
            co_await hear_last_words(ended);
        }
        outcome.error =
            std::move(ended).error().at(phase_of(state_.state()), formats::Side::destination);
        enter(source_took_it_back_ ? DestinationState::abandoned : after_failure(state_.state()));
    }
    helpers_.cancel();
    // What keep_alive ended with shows in every other send too.
    auto joined = co_await helpers_.join();
    (void)joined;
    co_await end_pages();
    auto said = co_await say_goodbye(outcome.error);
    if (!said) {
        progress_.note("saying goodbye: " + said.error().text());
    }
    if (state_.state() == DestinationState::abandoned) {
        co_await drop_machine();
    }
    outcome.machine = std::move(machine_);
    outcome.epoch = handover_.epoch();
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
        co_return co_await channel_->finish(options_.policy.farewell_limit());
    }
    co_return co_await channel_->fail(*error, options_.policy.farewell_limit());
}

/// Giving back gigabytes takes time that the I/O thread should not spend.
Task<void> DestinationSession::drop_machine() {
    pages_.reset();
    auto drop = [this]() -> Status {
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
