// SPDX-License-Identifier: Apache-2.0
// How a destination begins and restarts, what it does when connections come and go, and what a
// person can tell it.
#include "migrate/ownership/destination_owner.hpp"

#include <utility>

namespace wherry::migrate {

using formats::Status;

namespace {

DestinationOwnerState after_restart(const std::optional<OwnershipRecord>& last) {
    if (!last) {
        return DestinationOwnerState::idle;
    }
    switch (last->kind) {
    case RecordKind::handed_off:
        return DestinationOwnerState::idle; // was here once
    case RecordKind::accepted:
        return DestinationOwnerState::abandoning; // never ran, and its copy is gone
    case RecordKind::abandoned:
        return DestinationOwnerState::abandoned;
    case RecordKind::running:
    case RecordKind::done:
        return is_shared_arbiter(last->arbiter) ? DestinationOwnerState::in_doubt
                                                : DestinationOwnerState::lost;
    case RecordKind::salvaged:
        return DestinationOwnerState::salvaged;
    case RecordKind::offered:
    case RecordKind::committed:
    case RecordKind::reclaimed:
        break;
    }
    formats::invariant(false, "a VM that is here does not arrive here");
    return DestinationOwnerState::in_doubt;
}

} // namespace

std::unique_ptr<DestinationOwner>
DestinationOwner::restarted(std::optional<OwnershipRecord> last, Patience patience) {
    const State state = after_restart(last);
    return std::unique_ptr<DestinationOwner>{
        new DestinationOwner{state, std::move(last), patience}};
}

std::unique_ptr<DestinationOwner>
DestinationOwner::holding(OwnershipRecord last, Patience patience) {
    formats::invariant(
        last.kind == RecordKind::running || last.kind == RecordKind::done,
        "what a destination holds it has run");
    std::unique_ptr<DestinationOwner> owner{
        new DestinationOwner{State::done, std::move(last), patience}};
    owner->has_memory_ = true;
    return owner;
}

std::unique_ptr<DestinationOwner>
DestinationOwner::booted_again(OwnershipRecord last, Patience patience) {
    formats::invariant(
        last.kind == RecordKind::running || last.kind == RecordKind::done,
        "what was booted again had run here");
    return std::unique_ptr<DestinationOwner>{
        new DestinationOwner{State::lost, std::move(last), patience}};
}

void DestinationOwner::on_begin() {
    if (state_ == State::abandoning) {
        reason_ = "this process has started again";
        abandon();
    } else if (state_ == State::abandoned || state_ == State::in_doubt) {
        settle_with_arbiter();
    }
}

void DestinationOwner::on_event(const OwnershipEvent& event) {
    if (const auto* offer = std::get_if<event::Offered>(&event)) {
        on_offered(*offer);
    } else if (const auto* loaded = std::get_if<event::Loaded>(&event)) {
        loaded_ = loaded->epoch;
        accept_if_ready();
    } else if (std::holds_alternative<event::LastPagePlaced>(event)) {
        has_last_page_ = true;
        complete_if_ready();
    } else if (const auto* message = std::get_if<event::Received>(&event)) {
        on_message(*message);
    } else if (const auto* failed = std::get_if<event::Failed>(&event)) {
        on_failed(failed->reason);
    } else if (std::holds_alternative<event::Cancelled>(event)) {
        on_cancelled();
    } else if (const auto* connected = std::get_if<event::Connected>(&event)) {
        on_connected(connected->attempt);
    } else if (const auto* gone = std::get_if<event::Disconnected>(&event)) {
        on_failed(gone->reason);
    } else if (std::holds_alternative<event::ArbiterSays>(event)) {
        on_arbiter();
    } else if (std::holds_alternative<event::ArbiterUnreachable>(event)) {
        on_arbiter_unreachable();
    } else if (std::holds_alternative<event::GuestStarted>(event)) {
        on_started();
    } else if (const auto* not_started = std::get_if<event::GuestNotStarted>(&event)) {
        reason_ = "it does not start: " + not_started->reason;
        enter(State::lost);
        if (has_memory_) {
            tell();
        } else {
            tell_lost();
        }
    }
}

/// Too late where the acceptance has been said.
void DestinationOwner::on_cancelled() {
    if (state_ == State::accepting) {
        reason_ = "the migration was cancelled";
        abandon();
    }
}

void DestinationOwner::on_failed(const std::string& reason) {
    if (state_ == State::idle) {
        loaded_.reset(); // nothing was offered: what was filled is the session's to drop
    } else if (state_ == State::accepting) {
        reason_ = reason;
        abandon();
    } else if (state_ == State::accepted) {
        reason_ = reason;
        doubt();
    }
}

void DestinationOwner::on_connected(const Attempt& attempt) {
    peers_attempt_ = attempt;
    if (waits()) {
        say_accept();
    } else if (is_lost()) {
        tell_lost();
    } else if (has_not_started()) {
        tell();
    }
}

void DestinationOwner::on_arbiter_unreachable() {
    if (state_ == State::accepted) {
        reason_ = "the arbiter does not answer";
        doubt();
    } else if (waits() || is_restarted_owner() || state_ == State::abandoned) {
        retry_later();
    }
}

void DestinationOwner::on_wait_over() {
    if (state_ == State::accepting) {
        reason_ = "the guest was not loaded in time";
        abandon();
    } else if (state_ == State::accepted) {
        reason_ = "no answer came in time";
        doubt();
    }
}

void DestinationOwner::on_retry() {
    if (waits()) {
        if (is_connected_) {
            say_accept();
        }
        if (is_shared()) {
            ask_arbiter(ArbiterRecord{RecordKind::committed, epoch_}, Asker::destination);
        }
        retry_later();
    } else if (is_restarted_owner()) {
        ask_arbiter(std::nullopt, Asker::destination);
    } else if (state_ == State::abandoned && is_shared()) {
        const bool is_to_be_given_back = arbiter_says(RecordKind::offered, epoch_) ||
                                         arbiter_says(RecordKind::committed, epoch_);
        if (is_to_be_given_back) {
            ask_arbiter(
                ArbiterRecord{RecordKind::reclaimed, taken_back(epoch_)}, Asker::destination);
        } else {
            settle_with_arbiter();
        }
    }
}

void DestinationOwner::enter(State state) {
    state_ = state;
    stop_timers();
}

Status DestinationOwner::on_resolve(Keep keep, Assurance) {
    const bool would_ask_arbiter = is_restarted_owner() && !is_shared();
    if (!waits() && !would_ask_arbiter) {
        return refuse("this side is not in doubt: " + sentence());
    }
    if (keep == Keep::source) {
        reason_ = "a person keeps the source";
        abandon(); // always right where it waits: it never ran here, and the source hears so
        return {};
    }
    if (would_ask_arbiter) {
        reason_ = "a person keeps the destination";
        enter(State::lost);
        write(record_->kind, epoch_); // that it is decided
        return {};
    }
    if (is_shared()) {
        return refuse("the arbiter decides, and is being asked: " + sentence());
    }
    if (attempt_.pages_missing) {
        return refuse("pages of the VM are missing here: what is here cannot run alone");
    }
    reason_ = "a person keeps the destination";
    start();
    return {};
}

Status DestinationOwner::on_salvage() {
    const bool has_a_half = state_ == State::faulting || state_ == State::split ||
                            (state_ == State::lost && !is_on_disk(RecordKind::done));
    if (!attempt_.pages_missing || !has_a_half) {
        return refuse("no half of a VM is here that could be salvaged: " + sentence());
    }
    stop_guest();
    enter(State::salvaging);
    write(RecordKind::salvaged, next(epoch_));
    return {};
}

/// Nothing is noted: a process that starts again finds the VM `lost` here.
Status DestinationOwner::on_end_here() {
    const bool waits_for_source = state_ == State::faulting && !is_connected_;
    if (!waits_for_source && state_ != State::split) {
        return refuse(sentence());
    }
    stop_guest();
    return {};
}

Status DestinationOwner::on_boot_again() {
    if (state_ != State::lost) {
        return refuse("the VM is not to be booted here: " + sentence());
    }
    if (attempt_.pages_missing && !is_on_disk(RecordKind::done) && !has_memory_) {
        return refuse("a part of the VM's memory is on its source: it needs that side");
    }
    enter(State::launching);
    start_guest();
    return {};
}

} // namespace wherry::migrate
