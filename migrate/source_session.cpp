// SPDX-License-Identifier: Apache-2.0
// How a source ends. What it does on the way there is in detail/source_phases.cpp.
#include "migrate/source_session.hpp"

#include "migrate/detail/source_flow.hpp"

#include <fmt/format.h>

namespace wherry::migrate {

namespace detail {

using formats::ErrorCode;
using formats::Status;

Task<SourceOutcome> SourceSession::run() {
    Status ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    transport::TaskGroup main{executor_};
    main.start(phases(), [&ended](const Status& outcome) { ended = outcome; });
    stop_ = [this, &main] {
        is_stopping_ = true;
        main.cancel();
        if (pages_) {
            pages_->close(); // whatever they are writing
        }
        if (channel_) {
            channel_->hurry(options_.policy.farewell_limit());
        }
    };
    gate_.on_request(stop_);
    if (options_.tuner != nullptr) {
        options_.tuner->attach(options_.policy, [this](const Policy& policy) { adopt(policy); });
    }
    arm_deadline();
    // The outcome arrives through `ended`, whatever it is.
    auto joined = co_await main.join();
    (void)joined;
    deadline_.cancel();
    if (options_.tuner != nullptr) {
        options_.tuner->detach();
    }
    gate_.on_request({});
    stop_ = {};
    co_return co_await conclude(std::move(ended));
}

void SourceSession::interrupt(const formats::Error& error) {
    // What ends because it was told to end is no news.
    if (stop_ && !is_stopping_) {
        interruption_ = error;
        stop_();
    }
}

void SourceSession::adopt(const Policy& policy) {
    options_.policy = policy;
    limit_.set_rate(policy.bandwidth);
    convergence_.adopt(policy);
    slow_down(convergence_.throttle_percent());
    progress_.set_downtime_goal(policy.downtime);
    arm_deadline();
}

/// A guest that is to be stopped late is stopped at the end of a round; all else ends at once. Once
/// the guest stands still the deadline is met.
void SourceSession::arm_deadline() {
    const Policy& policy = options_.policy;
    if (!policy.deadline || policy.on_stall == OnStall::stop) {
        deadline_.cancel();
        return;
    }
    deadline_.expires_at(progress_.started() + *policy.deadline);
    deadline_.async_wait([this](const boost::system::error_code& error) {
        if (!error && stop_ && state_.state() <= SourceState::precopy) {
            is_late_ = true;
            stop_();
        }
    });
}

std::string SourceSession::explain_lateness() const {
    std::string why = "no page was sent by then";
    if (round_ > 0) {
        why = convergence_.explain(progress_.snapshot().dirty_rate);
    } else if (state_.state() == SourceState::precopy) {
        why = "the first pass over the guest's memory was not done by then";
    }
    return fmt::format(
        "the deadline of {} ms has passed: {}",
        std::chrono::duration_cast<std::chrono::milliseconds>(*options_.policy.deadline).count(),
        why);
}

/// The one place that says what a failure means. It depends on the state alone: before the commit
/// point the guest goes on here, after it this side does not know.
Task<SourceOutcome> SourceSession::conclude(Status ended) {
    SourceOutcome outcome;
    if (!ended) {
        const SourceState next = after_failure(state_.state());
        // First of all the guest goes on.
        slow_down(0);
        Status resumed;
        if (next == SourceState::reclaimed) {
            resumed = co_await go_on_here();
        }
        if (interruption_ && ended.error().code() == ErrorCode::cancelled &&
            !gate_.is_requested()) {
            ended = formats::fail(*interruption_);
        }
        co_await hear_last_words(ended);
        if (gate_.is_requested() && ended.error().code() == ErrorCode::cancelled) {
            // Whatever wait it was that the request ended.
            ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
        }
        if (is_late_ && ended.error().code() == ErrorCode::cancelled && !gate_.is_requested()) {
            ended = formats::fail(ErrorCode::timed_out, explain_lateness());
        }
        formats::Error error = std::move(ended).error();
        if (!resumed) {
            progress_.note(error.text());
            error = std::move(resumed).error();
        }
        outcome.error = std::move(error).at(phase_of(state_.state()), formats::Side::source);
        enter(next);
    }
    auto stopped = co_await stop_tracking();
    if (!stopped) {
        progress_.note(stopped.error().text());
    }
    co_await stop_helpers();
    co_await end_pages();
    if (channel_) {
        Status said;
        if (state_.state() == SourceState::reclaimed) {
            said = co_await channel_->fail(*outcome.error, options_.policy.farewell_limit());
        } else if (state_.state() == SourceState::handed_off) {
            said = co_await channel_->finish(options_.policy.farewell_limit());
        } else {
            // Nothing may be said after a commit that could be taken for its opposite.
            channel_->close();
        }
        if (!said) {
            progress_.note("saying goodbye: " + said.error().text());
        }
    }
    if (state_.state() == SourceState::in_doubt) {
        outcome.doubt.emplace(std::move(*given_up_).in_doubt());
        outcome.error =
            formats::Error{
                ErrorCode::in_doubt,
                fmt::format(
                    "the VM was given up as epoch {} and the destination's word that it runs it "
                    "never "
                    "came ({}); it stays paused here until someone has looked at the destination "
                    "and "
                    "decided with 'wherry resolve'",
                    static_cast<std::uint64_t>(options_.epoch) + 1,
                    outcome.error->text())}
                .at(formats::Phase::handover, formats::Side::source);
    }
    outcome.state = state_.state();
    outcome.custody = state_.custody();
    outcome.epoch = handover_.epoch_if_kept();
    outcome.report = progress_.report();
    co_return outcome;
}

/// Where the peer ended the conversation it may have said why, in bytes that have arrived but are
/// not read yet. Its words are better than our "connection lost".
Task<void> SourceSession::hear_last_words(Status& ended) {
    if (!inbox_ || ended.error().code() != ErrorCode::connection_lost) {
        co_return Status{};
    }
    auto waited = co_await inbox_->wait_for_end(options_.policy.farewell_limit());
    auto heard = inbox_->status();
    if (waited && !heard && channel_->peer_has_failed()) {
        ended = std::move(heard);
    }
    co_return waited;
}

Task<void> SourceSession::go_on_here() {
    if (!paused_) {
        co_return Status{};
    }
    auto take_back = [this] {
        return std::move(*paused_).take_back();
    };
    auto resumed = co_await on_worker(take_back);
    paused_.reset();
    co_return resumed;
}

Task<void> SourceSession::stop_tracking() {
    if (!tracker_) {
        co_return Status{};
    }
    auto stop = [this] {
        return tracker_->stop();
    };
    auto stopped = co_await on_worker(stop);
    tracker_.reset();
    co_return stopped;
}

Task<void> SourceSession::stop_helpers() {
    helpers_.cancel();
    // What they ended with has been seen through the inbox and through failed sends.
    co_return co_await helpers_.join();
}

/// Threads end before anything of the machine may go.
Task<void> SourceSession::end_pages() {
    if (!pages_) {
        co_return Status{};
    }
    pages_->close();
    auto settled = co_await pages_->settle();
    count_pages();
    co_return settled;
}

} // namespace detail

namespace {

using transport::Task;

Task<SourceOutcome> run_session(
    vmm::Machine& machine,
    SourceOptions options,
    Connector connect,
    CancelGate& gate,
    Observer& observer) {
    auto executor = co_await boost::asio::this_coro::executor;
    detail::SourceSession session{
        machine, std::move(options), std::move(connect), gate, observer, executor};
    co_return co_await session.run();
}

} // namespace

Task<SourceOutcome> run_source(
    vmm::Machine& machine,
    SourceOptions options,
    Connector connect,
    CancelGate& gate,
    Observer& observer) {
    auto session = run_session(machine, std::move(options), std::move(connect), gate, observer);
    co_return co_await transport::shielded(std::move(session));
}

} // namespace wherry::migrate
