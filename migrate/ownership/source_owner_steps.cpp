// SPDX-License-Identifier: Apache-2.0
// How a source begins and restarts, what it does when connections come and go, and what a person
// can tell it.
#include "migrate/ownership/source_owner.hpp"

#include <utility>

namespace wherry::migrate {

using formats::Status;

namespace {

SourceOwnerState after_restart(const std::optional<OwnershipRecord>& last) {
    if (!last) {
        return SourceOwnerState::lost;
    }
    switch (last->kind) {
    case RecordKind::offered:
    case RecordKind::committed:
        return SourceOwnerState::in_doubt;
    case RecordKind::reclaimed:
        return SourceOwnerState::lost;
    case RecordKind::handed_off:
        return SourceOwnerState::handed_off;
    case RecordKind::salvaged:
        return SourceOwnerState::salvaged;
    case RecordKind::accepted:
    case RecordKind::running:
    case RecordKind::done:
    case RecordKind::abandoned:
        break;
    }
    formats::invariant(false, "a restarted source has a source's record");
    return SourceOwnerState::in_doubt;
}

} // namespace

std::unique_ptr<SourceOwner>
SourceOwner::holding(Epoch epoch, std::optional<OwnershipRecord> last, Patience patience) {
    std::unique_ptr<SourceOwner> owner{new SourceOwner{State::precopy, std::move(last), patience}};
    owner->epoch_ = epoch;
    owner->has_memory_ = true;
    return owner;
}

std::unique_ptr<SourceOwner>
SourceOwner::restarted(std::optional<OwnershipRecord> last, Patience patience) {
    const State state = after_restart(last);
    return std::unique_ptr<SourceOwner>{new SourceOwner{state, std::move(last), patience}};
}

void SourceOwner::on_begin() {
    if (state_ == State::precopy) {
        return;
    }
    reason_ = "this process has started again";
    if (record_) {
        const bool is_taken_back = record_->kind == RecordKind::reclaimed;
        owed_ = is_taken_back ? Epoch{static_cast<std::uint64_t>(epoch_) - 1} : epoch_;
    }
    if (needs_peer()) {
        connect();
        retry_later();
    }
    if (state_ != State::in_doubt) {
        return;
    }
    if (is_on_disk(RecordKind::offered) && attempt_.pages_missing) {
        reclaim(); // the copy there is not whole: nothing to wait for
        return;
    }
    if (is_shared()) {
        ask_arbiter(wanted(), asker());
    }
    if (is_on_disk(RecordKind::offered)) {
        wait_for(patience().rescue);
    }
}

void SourceOwner::on_event(const OwnershipEvent& event) {
    if (const auto* stopped = std::get_if<event::GuestStopped>(&event)) {
        on_stopped(stopped->attempt);
    } else if (std::holds_alternative<event::AllSent>(event)) {
        all_sent_ = state_ == State::offering;
        offer_if_ready();
    } else if (const auto* message = std::get_if<event::Received>(&event)) {
        on_message(*message);
    } else if (const auto* failed = std::get_if<event::Failed>(&event)) {
        take_back_because(failed->reason);
    } else if (std::holds_alternative<event::Cancelled>(event)) {
        take_back_because("the migration was cancelled");
    } else if (std::holds_alternative<event::Connected>(event)) {
        on_connected();
    } else if (const auto* gone = std::get_if<event::Disconnected>(&event)) {
        on_disconnected(gone->reason);
    } else if (std::holds_alternative<event::ArbiterSays>(event)) {
        on_arbiter();
    } else if (std::holds_alternative<event::ArbiterUnreachable>(event)) {
        on_arbiter_unreachable();
    } else if (std::holds_alternative<event::GuestStarted>(event)) {
        on_started();
    } else if (const auto* not_started = std::get_if<event::GuestNotStarted>(&event)) {
        reason_ = "it does not start: " + not_started->reason;
        enter(State::lost);
        tell_taken_back();
    }
}

/// Too late where the commit point is behind.
void SourceOwner::take_back_because(const std::string& reason) {
    if (state_ == State::offering || state_ == State::offer) {
        reason_ = reason;
        reclaim();
    }
}

void SourceOwner::on_started() {
    has_memory_ = true;
    enter(State::reclaimed);
    tell_taken_back();
}

/// To a destination that may still hold a copy and wait.
void SourceOwner::tell_taken_back() {
    if (owed_) {
        send(MessageKind::took_back, *owed_);
        if (!is_connected_) {
            retry_later();
        }
    }
}

void SourceOwner::on_connected() {
    if (state_ == State::reclaimed || state_ == State::lost) {
        tell_taken_back();
    } else if (is_split_without_memory()) {
        tell_pages_lost();
        send(MessageKind::ask);
    } else {
        say_again();
    }
}

void SourceOwner::on_disconnected(const std::string& reason) {
    if (state_ == State::offering || state_ == State::offer) {
        take_back_because(reason);
    } else if (state_ == State::committed) {
        reason_ = reason;
        doubt();
    } else if (needs_peer()) {
        if (state_ == State::in_doubt) {
            reason_ = reason;
        }
        retry_later();
    }
}

bool SourceOwner::needs_peer() const {
    switch (state_) {
    case State::committed:
    case State::in_doubt:
    case State::serving:
        return true;
    case State::split:
        return !has_memory_;
    case State::reclaimed:
    case State::lost:
        return owed_.has_value();
    case State::precopy:
    case State::offering:
    case State::offer:
    case State::committing:
    case State::reclaiming:
    case State::resuming:
    case State::handing_off:
    case State::handed_off:
    case State::salvaging:
    case State::salvaged:
        return false;
    }
    return false;
}

/// What a destination that did not hear the last word needs to go on.
void SourceOwner::say_again() {
    if (has_committed()) {
        send(MessageKind::commit);
    } else if (
        state_ == State::committed || state_ == State::in_doubt || state_ == State::serving) {
        send(MessageKind::ask);
    }
}

void SourceOwner::on_retry() {
    if (needs_peer()) {
        if (!is_connected_) {
            connect();
            retry_later();
        } else if (state_ == State::committed || state_ == State::in_doubt) {
            say_again();
            retry_later();
        }
    }
    if (is_shared() && is_undecided()) {
        ask_arbiter(wanted(), asker());
    }
}

void SourceOwner::read_arbiter() {
    ask_arbiter(wanted(), asker());
}

/// Whether what the arbiter says makes a difference.
bool SourceOwner::is_undecided() const {
    return state_ == State::offering || state_ == State::committed || state_ == State::in_doubt ||
           state_ == State::reclaiming;
}

std::optional<ArbiterRecord> SourceOwner::wanted() const {
    if (!wish_) {
        return std::nullopt;
    }
    return ArbiterRecord{*wish_, *wish_ == RecordKind::reclaimed ? taken_back(epoch_) : epoch_};
}

Asker SourceOwner::asker() const {
    return is_fenced_ ? Asker::fenced_source : Asker::source;
}

void SourceOwner::enter(State state) {
    state_ = state;
    stop_timers();
}

Status SourceOwner::on_resolve(Keep keep, Assurance assurance) {
    if (state_ != State::in_doubt && !is_split_without_memory()) {
        return refuse("this side is not in doubt: " + sentence());
    }
    const bool is_given_up = is_on_disk(RecordKind::committed);
    const bool overtaken = is_shared() && arbiter_is_beyond(epoch_);
    if (keep == Keep::source) {
        if (overtaken) {
            return refuse("the VM was handed on since: keep it where it is now");
        }
        if (state_ == State::split && is_connected_) {
            return refuse(
                "the destination has the VM and is connected; to give it up there, say 'wherry "
                "salvage' there first");
        }
        if (is_shared() && is_given_up && assurance == Assurance::none) {
            return refuse(
                "the arbiter has committed the VM to the destination, which alone can give it "
                "back; where its host is dead for good, or the VM was salvaged there, add "
                "--fenced");
        }
        is_fenced_ = is_shared() && assurance == Assurance::destination_is_dead;
        reason_ = "a person keeps the source";
        reclaim();
        return {};
    }
    if (attempt_.pages_missing && has_memory_) {
        return refuse(
            "pages of the VM that are missing on the destination are here; 'wherry salvage' writes "
            "them");
    }
    if (attempt_.pages_missing && !is_given_up && !overtaken) {
        return refuse(
            "the VM was offered and not given up, and a copy there is not whole: keep the source");
    }
    if (!is_shared() || overtaken || is_given_up) {
        reason_ = "a person keeps the destination";
        hand_off();
        return {};
    }
    if (!arbiter_says(RecordKind::offered, epoch_) || is_asking_arbiter()) {
        return refuse("the arbiter has not said that the VM can be had; say it again in a moment");
    }
    // Once: where it is not carried out, or comes late, this side goes on as before.
    ask_arbiter(ArbiterRecord{RecordKind::committed, epoch_}, asker());
    return {};
}

Status SourceOwner::on_salvage() {
    const bool given_up = attempt_.pages_missing && has_memory_ &&
                          (state_ == State::serving || state_ == State::split ||
                           (state_ == State::in_doubt && is_on_disk(RecordKind::committed)));
    if (!given_up) {
        return refuse("no half of a VM is here that could be salvaged: " + sentence());
    }
    if (state_ == State::serving && is_connected_) {
        return refuse("the destination runs the VM, and gets the pages that it misses");
    }
    enter(State::salvaging);
    write(RecordKind::salvaged, next(epoch_));
    return {};
}

/// It runs no guest, and what it has may be all there is of one.
Status SourceOwner::on_end_here() {
    return refuse(sentence());
}

Status SourceOwner::on_boot_again() {
    if (state_ != State::lost) {
        return refuse("the VM is not to be booted here: " + sentence());
    }
    enter(State::resuming);
    start_guest();
    return {};
}

} // namespace wherry::migrate
