// SPDX-License-Identifier: Apache-2.0
// The transitions of the destination. rules() and tests/model/destination.pml are to be read side
// by side.
#include "migrate/ownership/destination_owner.hpp"

#include <array>
#include <utility>

namespace wherry::migrate {

/// On a message of this side's epoch: the first that fits.
struct DestinationOwner::Rule {
    MessageKind message;
    bool (DestinationOwner::*when)() const;
    void (DestinationOwner::*then)();
};

std::span<const DestinationOwner::Rule> DestinationOwner::rules() {
    using M = MessageKind;
    using D = DestinationOwner;
    static constexpr std::array table{
        Rule{M::commit, &D::waits_locally, &D::start},
        Rule{M::commit, &D::has_run_it, &D::tell},
        Rule{M::commit, &D::is_lost, &D::tell_lost},
        Rule{M::ask, &D::waits, &D::say_accept},
        Rule{M::ask, &D::has_run_it, &D::tell},
        Rule{M::ask, &D::is_lost, &D::tell_lost},
        Rule{M::took_back, &D::waits_or_accepting, &D::abandon},
        Rule{M::pages_lost, &D::may_split, &D::split},
    };
    return table;
}

/// WAITS: holds a whole copy, and does not know.
bool DestinationOwner::waits() const {
    return is_on_disk(RecordKind::accepted) &&
           (state_ == State::accepted || state_ == State::in_doubt);
}
bool DestinationOwner::waits_or_accepting() const {
    return waits() || state_ == State::accepting;
}
bool DestinationOwner::has_run_it() const {
    return state_ == State::done || state_ == State::faulting || state_ == State::split ||
           has_not_started();
}
/// Its copy is still whole (but for pages that are to come), and RUNNING on the disk.
bool DestinationOwner::has_not_started() const {
    return state_ == State::lost && has_memory_;
}
bool DestinationOwner::may_split() const {
    return (state_ == State::faulting || has_not_started()) && !has_last_page_;
}
bool DestinationOwner::has_nothing() const {
    return state_ == State::idle || state_ == State::abandoned;
}
/// With a shared arbiter, until it has confirmed that a restarted owner is still the owner.
bool DestinationOwner::is_restarted_owner() const {
    return state_ == State::in_doubt &&
           (is_on_disk(RecordKind::running) || is_on_disk(RecordKind::done));
}

void DestinationOwner::on_message(const event::Received& message) {
    const bool is_question =
        message.kind == MessageKind::commit || message.kind == MessageKind::ask;
    if (is_question && has_nothing() && message.epoch >= epoch_) {
        refuse_unheard(message.epoch);
        return;
    }
    if (message.epoch != epoch_) {
        return; // of an attempt that is over
    }
    for (const Rule& rule : rules()) {
        if (rule.message == message.kind && (this->*rule.when)()) {
            (this->*rule.then)();
            return;
        }
    }
}

/// Someone asks about an epoch of which there is no copy here: no, durably, before it is said.
void DestinationOwner::refuse_unheard(Epoch epoch) {
    if (state_ == State::abandoned && epoch == epoch_) {
        send(MessageKind::refused);
        settle_with_arbiter();
        return;
    }
    epoch_ = epoch;
    attempt_ = peers_attempt_;
    reason_ = "the source asked about a copy that was never whole here";
    abandon();
}

void DestinationOwner::on_offered(const event::Offered& offer) {
    if (has_nothing() && offer.epoch > epoch_) {
        epoch_ = offer.epoch;
        attempt_ = offer.attempt;
        has_memory_ = true;
        has_last_page_ = false;
        reason_.clear();
        enter(State::accepting);
        wait_for(patience().reply);
        write(RecordKind::accepted, epoch_);
    } else if (waits() && offer.epoch > epoch_) {
        reason_ = "the source offers the VM anew";
        abandon(); // a newer offer proves that the old one was taken back
    }
}

void DestinationOwner::accept_if_ready() {
    if (state_ != State::accepting || !is_on_disk(RecordKind::accepted) || loaded_ != epoch_) {
        return;
    }
    enter(State::accepted);
    say_accept();
    wait_for(patience().reply);
    if (is_shared()) {
        ask_arbiter(ArbiterRecord{RecordKind::committed, epoch_}, Asker::destination);
    } else {
        retry_later();
    }
}

void DestinationOwner::doubt() {
    enter(State::in_doubt);
    retry_later();
}

/// COMMITTED(e) is known: by the source's word, or by the arbiter's.
void DestinationOwner::start() {
    enter(State::starting);
    write(RecordKind::running, epoch_);
}

void DestinationOwner::abandon() {
    enter(State::abandoning);
    loaded_.reset();
    drop_memory();
    write(RecordKind::abandoned, epoch_);
}

void DestinationOwner::on_written() {
    if (state_ == State::lost) { // by a person's word
        tell_lost();
        return;
    }
    switch (record_->kind) {
    case RecordKind::accepted:
        accept_if_ready();
        return;
    case RecordKind::running:
        enter(State::launching);
        start_guest();
        return;
    case RecordKind::done:
        enter(State::done);
        send(MessageKind::complete);
        return;
    case RecordKind::abandoned:
        enter(State::abandoned);
        send(MessageKind::refused);
        settle_with_arbiter();
        return;
    case RecordKind::salvaged:
        enter(State::salvaged);
        return;
    case RecordKind::offered:
    case RecordKind::committed:
    case RecordKind::reclaimed:
    case RecordKind::handed_off:
        break;
    }
    formats::invariant(false, "a destination writes a destination's records");
}

/// Nothing was said yet where ACCEPTED may not be there; the others must get there.
bool DestinationOwner::on_write_failed() {
    if (state_ == State::accepting) {
        reason_ = "the acceptance could not be noted";
        abandon();
        return false;
    }
    return true;
}

/// What was won, or could still be, and cannot be used is given back: read first.
void DestinationOwner::settle_with_arbiter() {
    if (is_shared()) {
        ask_arbiter(std::nullopt, Asker::destination);
    }
}

/// What the arbiter says counts, not what came of a request.
void DestinationOwner::on_arbiter() {
    const bool is_committed = arbiter_says(RecordKind::committed, epoch_);
    const bool is_offered = arbiter_says(RecordKind::offered, epoch_);
    if (waits()) {
        if (is_committed) {
            start();
        } else if (arbiter_is_beyond(epoch_)) {
            reason_ = "the source has taken the VM back";
            abandon();
        } else {
            pursue(ArbiterRecord{RecordKind::committed, epoch_}, Asker::destination);
        }
    } else if (state_ == State::abandoned && (is_committed || is_offered)) {
        pursue(ArbiterRecord{RecordKind::reclaimed, taken_back(epoch_)}, Asker::destination);
    } else if (is_restarted_owner()) {
        if (is_committed) {
            enter(State::lost);
            tell_lost();
        } else if (arbiter_is_beyond(epoch_)) {
            reason_ = "the VM was taken from this host while it was down";
            abandon();
        } else {
            retry_later();
        }
    }
}

void DestinationOwner::on_started() {
    has_memory_ = true;
    if (is_on_disk(RecordKind::done) || !attempt_.pages_missing) {
        enter(State::done);
    } else {
        enter(State::faulting);
    }
    tell();
    complete_if_ready(); // what was missing may have come while the guest was made
}

void DestinationOwner::complete_if_ready() {
    if (state_ == State::faulting && has_last_page_) {
        write(RecordKind::done, epoch_);
    }
}

/// What is missing here is lost there.
void DestinationOwner::split() {
    stop_guest();
    reason_ = "the source lost the pages that are missing here";
    enter(State::split);
}

void DestinationOwner::tell() {
    const bool is_complete = attempt_.pages_missing && is_on_disk(RecordKind::done);
    send(is_complete ? MessageKind::complete : MessageKind::running);
}

/// A guest that died here after its last page had come needs nothing of the source any more.
void DestinationOwner::tell_lost() {
    const bool is_complete = attempt_.pages_missing && is_on_disk(RecordKind::done);
    send(is_complete ? MessageKind::complete : MessageKind::lost);
}

} // namespace wherry::migrate
