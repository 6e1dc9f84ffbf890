// SPDX-License-Identifier: Apache-2.0
// How a source begins and ends. What it does on the way is in detail/source_*.cpp.
#include "migrate/source_session.hpp"

#include "migrate/detail/source_flow.hpp"

#include <fmt/format.h>

namespace wherry::migrate {

namespace detail {

using formats::ErrorCode;
using formats::Status;

SourceSession::SourceSession(
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
      owner_{SourceOwner::holding(
          options_.epoch, options_.last_record, options_.policy.ownership_patience())},
      runner_{*owner_, *this, executor},
      limit_{executor},
      link_{
          formats::Side::source,
          executor,
          {.on_word =
               [this](const event::Received& word, const Control& message) {
                   on_word(word, message);
               },
           .on_peer_trouble = [this] { explain_owner(); },
           .on_missing = [this](dirtylog::DirtySet missing) { on_missing(std::move(missing)); },
           .on_placed =
               [this](const formats::proto::Placed& said) {
                   Status known =
                       formats::fail(ErrorCode::protocol, "the destination speaks of no page yet");
                   if (pages_) {
                       known = pages_->placed(said);
                   }
                   if (!known) {
                       lose_pages(known.error());
                   }
               },
           .on_lost =
               [this](const formats::Error& error) {
                   on_link_lost(error);
               }}},
      running_{executor},
      helpers_{executor},
      rounds_{machine, options_.policy, progress_, worker_.get_executor()},
      deadline_{executor},
      phases_ended_{executor},
      patience_{executor} {
    limit_.set_rate(options_.policy.bandwidth);
}

Task<SourceOutcome> SourceSession::run() {
    const PromptSession prompt{options_.threads, worker_};
    running_.start(runner_.run());
    if (options_.desk != nullptr) {
        options_.desk->attach(runner_, [this] { return switch_to_postcopy(); });
    }
    Status ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    transport::TaskGroup main{executor_};
    main.start(phases(), [&ended](const Status& outcome) { ended = outcome; });
    stop_ = [this, &main] {
        is_stopping_ = true;
        main.cancel();
        if (pages_) {
            pages_->close(); // whatever they are writing
        }
        if (owner_->state() == SourceOwnerState::precopy && link_.has_channel()) {
            link_.channel().hurry(options_.policy.farewell_limit());
        }
    };
    gate_.on_request([this] {
        if (stop_) {
            stop_();
        }
        runner_.tell(event::Cancelled{});
    });
    if (options_.tuner != nullptr) {
        options_.tuner->attach(options_.policy, [this](const Policy& policy) { adopt(policy); });
    }
    arm_deadline();
    // The outcome arrives through `ended`, whatever it is.
    auto joined = co_await main.join();
    (void)joined;
    deadline_.silence();
    stop_ = {};
    phases_ended_.notify_all();
    if (stopped_) {
        if (!ended && was_ended_by_owner(ended.error())) {
            ended = {};
        }
        if (!ended) {
            runner_.tell(event::Failed{ended.error().text()});
        }
        auto over = co_await runner_.wait_until([this] { return is_over(); });
        (void)over;
    }
    if (options_.tuner != nullptr) {
        options_.tuner->detach();
    }
    gate_.on_request({});
    co_return co_await conclude(std::move(ended));
}

/// It has decided while something was still waited for.
bool SourceSession::was_ended_by_owner(const formats::Error& error) const {
    return error.code() == ErrorCode::cancelled && !interruption_ && !is_late_ &&
           !gate_.is_requested();
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
    if (state_.state() == SourceState::serving) {
        limit_.set_rate(policy.postcopy_bandwidth);
    } else if (!rounds_.convergence().is_hurried()) {
        limit_.set_rate(policy.bandwidth);
    }
    rounds_.adopt(policy);
    progress_.set_downtime_goal(policy.downtime);
    arm_deadline();
}

/// A guest that is to be stopped late, or to go hybrid, is stopped at the end of a round, the first
/// pass excepted in the latter case: it is always made, unless it was broken off. All else ends at
/// once. Once the guest stands still the deadline is met.
void SourceSession::arm_deadline() {
    const Policy& policy = options_.policy;
    if (!policy.deadline || policy.on_stall == OnStall::stop) {
        deadline_.silence();
        return;
    }
    deadline_.set_at(progress_.started() + *policy.deadline, [this] {
        const bool goes_hybrid =
            options_.policy.on_stall == OnStall::hybrid || options_.policy.mode == Mode::hybrid;
        const bool ends_by_itself =
            rounds_.convergence().is_hurried() || (goes_hybrid && round_ > 0);
        if (stop_ && state_.state() <= SourceState::precopy && !ends_by_itself) {
            is_late_ = true;
            stop_();
        }
    });
}

std::string SourceSession::explain_stall() const {
    return fmt::format(
        "the migration does not converge: {}, --on-stall stop accepts any blackout",
        rounds_.convergence().explain(progress_.snapshot().dirty_rate));
}

std::string SourceSession::explain_lateness() const {
    std::string why = "no page was sent by then";
    if (round_ > 0) {
        why = explain_stall();
    } else if (state_.state() == SourceState::precopy) {
        why = "the first pass over the guest's memory was not done by then";
    }
    return fmt::format(
        "the deadline of {} ms has passed: {}",
        std::chrono::duration_cast<std::chrono::milliseconds>(*options_.policy.deadline).count(),
        why);
}

/// Why the VM is here still, or not known to be there.
Task<formats::Error> SourceSession::explain_failure(Status ended) {
    if (ended) {
        // Everything was sent; what came then is the owner's to tell, and the destination's.
        ended = formats::fail(
            state_.state() == SourceState::in_doubt ? ErrorCode::in_doubt : ErrorCode::refused,
            link_.with_peer_trouble(owner_->status().sentence));
        // A connection that was made again for a last word does not say why the first one ended.
        const bool is_back = loss_ && link_.is_up();
        bool has_said_why = false;
        if (!is_back) {
            auto waited = co_await link_.inbox().wait_for_end(options_.policy.farewell_limit());
            has_said_why = waited && link_.channel().peer_has_failed();
        }
        if (has_said_why) {
            ended = link_.inbox().status();
        } else if (loss_) {
            ended = formats::fail(*loss_);
        }
    }
    if (interruption_ && ended.error().code() == ErrorCode::cancelled && !gate_.is_requested()) {
        ended = formats::fail(*interruption_);
    }
    co_await link_.hear_last_words(ended, options_.policy.farewell_limit());
    if (gate_.is_requested() && owner_->status().custody == Custody::source) {
        // Whatever wait it was that the request ended.
        ended = formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    }
    if (is_late_ && ended.error().code() == ErrorCode::cancelled && !gate_.is_requested()) {
        ended = formats::fail(ErrorCode::timed_out, explain_lateness());
    }
    co_return std::move(ended).error();
}

/// The one place that says how it ended. Who has the VM is the owner's word; before the guest was
/// stopped it has not been asked, and the VM is here.
Task<SourceOutcome> SourceSession::conclude(Status ended) {
    SourceOutcome outcome;
    rounds_.release();
    const auto failed_in = state_.state();
    if (owner_->state() == SourceOwnerState::precopy) {
        enter(SourceState::reclaimed);
    } else if (is_given_up_for_now() && state_.state() != SourceState::in_doubt) {
        follow(SourceState::in_doubt);
    }
    if (state_.state() != SourceState::handed_off) {
        auto why = co_await explain_failure(std::move(ended));
        if (start_failure_ && why) {
            progress_.note(why->text());
            why = *start_failure_;
        }
        if (state_.state() == SourceState::salvaged) {
            why = std::move(*why).during("the VM was salvaged");
        }
        outcome.error = std::move(*why).at(phase_of(failed_in), formats::Side::source);
    }
    auto stopped = co_await rounds_.stop();
    if (!stopped) {
        progress_.note(stopped.error().text());
    }
    if (options_.desk != nullptr) {
        options_.desk->detach();
    }
    runner_.stop();
    auto ran = co_await running_.join();
    (void)ran;
    co_await helpers_.end();
    co_await end_recovery();
    co_await end_pages();
    auto said = co_await say_goodbye(outcome.error);
    if (!said) {
        progress_.note("saying goodbye: " + said.error().text());
    }
    if (state_.state() == SourceState::in_doubt) {
        outcome.error =
            formats::Error{ErrorCode::in_doubt, link_.with_peer_trouble(owner_->status().sentence)}
                .at(formats::Phase::handover, formats::Side::source);
    }
    outcome.state = state_.state();
    outcome.custody = owner_->status().custody;
    outcome.epoch = owner_->epoch();
    outcome.report = progress_.report();
    if (state_.state() == SourceState::in_doubt) {
        outcome.doubt = std::make_unique<InDoubtGuest>(
            std::move(owner_), *options_.keeper, Keep::source, [guest = *stopped_]() mutable {
                return guest.go_on();
            });
    }
    co_return outcome;
}

/// Nothing may be said after a commit that could be taken for its opposite.
Task<void> SourceSession::say_goodbye(const std::optional<formats::Error>& error) {
    if (!link_.has_channel()) {
        co_return Status{};
    }
    const bool was_up = link_.is_up();
    auto rested = co_await link_.rest();
    (void)rested;
    if (state_.state() == SourceState::reclaimed) {
        co_return co_await link_.channel().fail(*error, options_.policy.farewell_limit());
    }
    if (state_.state() == SourceState::handed_off) {
        // Also where the destination has said its goodbye already.
        auto said = co_await link_.channel().finish(options_.policy.farewell_limit());
        co_return was_up ? said : Status{};
    }
    link_.drop();
    co_return Status{};
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
