// SPDX-License-Identifier: Apache-2.0
// The destination from the offer on: what the DestinationOwner wants done.
#include "migrate/detail/destination_flow.hpp"
#include "migrate/ownership/words.hpp"
#include "migrate/postcopy/missing_pages_message.hpp"

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// For a guest some of whose memory is missing: kicks are repeated every few milliseconds.
constexpr std::chrono::seconds stop_limit{3};

} // namespace

void DestinationSession::on_link_lost(const formats::Error& error) {
    loss_ = error;
    if (!is_offered_) {
        interrupt(error); // nobody may be waiting for the source's word
        return;
    }
    link_.drop(); // where it was we who did not understand the source, it still is heard
    lose_pages(error);
    runner_.tell(event::Disconnected{error.text()});
    if (options_.policy.recover_timeout) {
        patience_.set(*options_.policy.recover_timeout, [this] {
            has_no_patience_left_ = true;
            runner_.look_again();
        });
    }
    if (is_waiting_for_return_) {
        return;
    }
    is_waiting_for_return_ = true;
    helpers_.start(wait_for_return(), [this](const Status& back) {
        is_waiting_for_return_ = false;
        if (!back && back.error().code() != ErrorCode::cancelled) {
            link_.drop();
            on_link_lost(back.error());
        }
    });
}

/// By our own state, which follows the owner's once all that it wanted has been done. A source that
/// has not heard of it asks at the InquiryDesk.
bool DestinationSession::is_over() const {
    const DestinationState state = state_.state();
    return state == DestinationState::done || state == DestinationState::abandoned ||
           state == DestinationState::lost || state == DestinationState::salvaged ||
           is_given_up_for_now();
}

bool DestinationSession::is_given_up_for_now() const {
    return has_no_patience_left_ && !link_.is_up() &&
           (owner_->state() == DestinationOwnerState::accepted ||
            owner_->state() == DestinationOwnerState::in_doubt);
}

Status DestinationSession::write_record(const OwnershipRecord& record) {
    return options_.keeper->write(record);
}

formats::Result<std::optional<ArbiterRecord>>
DestinationSession::ask_arbiter(const action::AskArbiter& question) {
    return options_.keeper->ask(question);
}

/// A destination that runs with pages missing says at once which: after a lost connection the
/// source knows no better way.
Task<void> DestinationSession::send_word(MessageKind kind, Epoch epoch) {
    Control message = message_of(kind, epoch);
    if (kind == MessageKind::complete && memory_) {
        const FaultReport faults = memory_->report();
        const auto us = [](Duration duration) {
            return static_cast<std::uint64_t>(
                std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
        };
        auto& complete = *message.mutable_complete();
        complete.set_faults(faults.count);
        complete.set_median_us(us(faults.median));
        complete.set_p99_us(us(faults.p99));
        complete.set_longest_us(us(faults.longest));
        complete.set_repeated_pages(faults.repeated.value());
    }
    auto said = co_await link_.say(message);
    const bool names_pages = kind == MessageKind::running && is_faulting_ && source_has_memory_;
    if (!said || !names_pages || !link_.is_up()) {
        co_return said;
    }
    auto named = co_await send_missing(link_.channel(), memory_->missing());
    if (named) {
        memory_->queue().ask_again();
        co_await end_recovery();
        recovery_.emplace(executor_);
        recovery_->start(take_channels_again(), [this](const Status& taken) {
            if (!taken && taken.error().code() != ErrorCode::cancelled) {
                lose_pages(taken.error());
            }
        });
    }
    co_return named;
}

Task<void> DestinationSession::start_guest(bool from_memory) {
    formats::invariant(from_memory && machine_, "a session has the memory of its guest");
    auto resume = [this] {
        return plan_.stays_paused ? Status{} : machine_->resume();
    };
    auto started = co_await on_worker(resume);
    if (!started) {
        start_failure_ = std::move(started).error().during("starting the VM");
        co_return formats::fail(*start_failure_);
    }
    co_return started;
}

/// A vCPU that waits for a page which nobody will bring is as good as stopped: it has not a step
/// to go.
Task<void> DestinationSession::stop_guest() {
    auto pause = [this] {
        auto paused = machine_->pause_within(stop_limit, vmm::IfLate::stays_asked);
        const bool is_late = !paused && paused.error().code() == ErrorCode::timed_out;
        if (is_late && (!memory_ || memory_->queue().waiting() == 0)) {
            return machine_->pause();
        }
        return is_late ? Status{} : paused;
    };
    co_return co_await on_worker(pause);
}

Task<void> DestinationSession::try_stop_guest() {
    const auto state = owner_->state();
    if (state != DestinationOwnerState::faulting && state != DestinationOwnerState::split) {
        co_return Status{};
    }
    auto pause = [this] {
        return machine_->pause_within(stop_limit, vmm::IfLate::goes_on);
    };
    auto paused = co_await on_worker(pause);
    if (!paused && paused.error().code() == ErrorCode::timed_out) {
        co_return formats::fail(
            ErrorCode::unsupported,
            fmt::format(
                "this half cannot be written: a vCPU waits for a page that is missing, and {} does "
                "not let go of it here. {}",
                machine_->backend().name,
                state == DestinationOwnerState::split
                    ? "The source's half is gone: end this VM (wherry kill), and boot it again"
                    : "Bring the connection back; or end this VM (wherry kill), and the source's "
                      "half alone is the guest as it was at the switch"));
    }
    co_return paused;
}

Task<void> DestinationSession::let_guest_go_on() {
    if (!machine_ || owner_->status().custody != Custody::destination) {
        co_return Status{};
    }
    auto resume = [this] {
        return plan_.stays_paused ? Status{} : machine_->resume();
    };
    co_return co_await on_worker(resume);
}

Task<void> DestinationSession::drop_memory() {
    if (stop_ && !is_stopping_) {
        stop_();
    }
    // The phases may still be at work on it.
    while (stop_) {
        auto ended = co_await phases_ended_.wait();
        if (!ended) {
            co_return ended;
        }
    }
    co_await end_pages();
    co_return co_await drop_machine();
}

/// It is the source that connects.
void DestinationSession::reconnect() {}

void DestinationSession::owner_moved() {
    const auto next = mirrored(owner_->state());
    if (next && *next != state_.state()) {
        follow(*next);
    }
    if (owner_->state() == DestinationOwnerState::faulting && !is_faulting_) {
        is_faulting_ = true;
        take_pushed();
    }
    if (is_offered_) {
        count_pages(); // a sentence about missing pages comes with their number
    }
    explain_owner();
}

/// To both users, with what is in either side's way: a full disk, for example.
void DestinationSession::explain_owner() {
    link_.set_trouble(owner_->trouble());
    if (is_offered_) {
        const auto status = owner_->status();
        progress_.explain(std::string{status.state}, link_.with_peer_trouble(status.sentence));
    }
}

} // namespace wherry::migrate::detail
