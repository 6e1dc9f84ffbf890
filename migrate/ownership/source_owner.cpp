// SPDX-License-Identifier: Apache-2.0
// The transitions of the source. rules() and tests/model/source.pml are to be read side by side.
#include "migrate/ownership/source_owner.hpp"

#include <array>
#include <utility>

namespace wherry::migrate {

/// On a message of the epoch that is offered: the first that fits.
struct SourceOwner::Rule {
    MessageKind message;
    bool (SourceOwner::*when)() const;
    void (SourceOwner::*then)();
};

std::span<const SourceOwner::Rule> SourceOwner::rules() {
    using M = MessageKind;
    using S = SourceOwner;
    static constexpr std::array table{
        Rule{M::accept, &S::may_commit, &S::commit},
        Rule{M::accept, &S::has_committed, &S::repeat_commit},
        Rule{M::running, &S::listens_whole, &S::hand_off},
        Rule{M::running, &S::listens_missing, &S::serve},
        Rule{M::running, &S::is_split_without_memory, &S::tell_pages_lost},
        Rule{M::lost, &S::listens_whole, &S::hand_off},
        Rule{M::lost, &S::may_hear_lost, &S::hear_lost},
        Rule{M::refused, &S::is_offer, &S::reclaim},
        Rule{M::refused, &S::is_refused_locally, &S::reclaim},
        Rule{M::refused, &S::is_refused_by_arbiters_owner, &S::read_arbiter},
        Rule{M::complete, &S::may_complete, &S::hand_off},
    };
    return table;
}

/// THE COMMIT POINT is ahead with arbiter `local`. Restarted, nothing ran since the offer, so that
/// the copy there is the guest; where pages are missing there it is not.
bool SourceOwner::may_commit() const {
    return !is_shared() &&
           (state_ == State::offer || (state_ == State::in_doubt &&
                                       is_on_disk(RecordKind::offered) && !attempt_.pages_missing));
}
bool SourceOwner::has_committed() const {
    return !is_shared() && (state_ == State::committed ||
                            (state_ == State::in_doubt && is_on_disk(RecordKind::committed)));
}
/// SOURCE_LISTENS: given up or about to know.
bool SourceOwner::listens() const {
    return state_ == State::committed || state_ == State::in_doubt ||
           (is_shared() && (state_ == State::offer || state_ == State::reclaiming));
}
bool SourceOwner::is_refused_locally() const {
    return !is_shared() && (state_ == State::committed || state_ == State::in_doubt);
}
/// The destination gives it back at the arbiter; that is what counts.
bool SourceOwner::is_refused_by_arbiters_owner() const {
    return is_shared() && (state_ == State::committed || state_ == State::in_doubt);
}
bool SourceOwner::may_hear_lost() const {
    return attempt_.pages_missing &&
           (listens() || state_ == State::serving || is_split_without_memory());
}
bool SourceOwner::may_complete() const {
    return attempt_.pages_missing &&
           (listens() || state_ == State::serving || state_ == State::split);
}
bool SourceOwner::is_split_without_memory() const {
    return state_ == State::split && !has_memory_;
}

void SourceOwner::on_message(const event::Received& message) {
    if (message.kind == MessageKind::refused && message.epoch == owed_) {
        owed_.reset(); // its copy is gone, and it waits for nothing
    }
    if (message.epoch == epoch_) {
        for (const Rule& rule : rules()) {
            if (rule.message == message.kind && (this->*rule.when)()) {
                (this->*rule.then)();
                return;
            }
        }
        return; // late, or said twice
    }
    if (message.epoch < epoch_ && message.kind == MessageKind::accept) {
        send(MessageKind::took_back, message.epoch);
    }
}

/// From here to the commit point every failure leads to `reclaiming`.
void SourceOwner::on_stopped(const Attempt& attempt) {
    formats::invariant(
        state_ == State::precopy || state_ == State::reclaimed,
        "a hand-over begins with a VM that is here");
    attempt_ = attempt;
    epoch_ = next(epoch_);
    all_sent_ = false;
    arbiter_has_offer_ = false;
    offer_left_ = false;
    is_fenced_ = false;
    wish_.reset();
    reason_.clear();
    enter(State::offering);
    write(RecordKind::offered, epoch_);
}

void SourceOwner::offer_if_ready() {
    if (state_ == State::offering && is_on_disk(RecordKind::offered) && all_sent_ &&
        (!is_shared() || arbiter_has_offer_)) {
        wish_.reset();
        offer_left_ = true;
        owed_ = epoch_;
        enter(State::offer);
        send(MessageKind::offer);
        wait_for(patience().reply);
    }
}

void SourceOwner::commit() {
    enter(State::committing);
    become_committed(State::committed);
}

void SourceOwner::repeat_commit() {
    send(MessageKind::commit);
}

/// COMMITTED is on this disk before anything is done that counts on it.
void SourceOwner::become_committed(State then) {
    then_ = then;
    if (is_on_disk(RecordKind::committed)) {
        after_committed();
    } else {
        write(RecordKind::committed, epoch_);
    }
}

void SourceOwner::after_committed() {
    wish_.reset();
    enter(then_);
    if (state_ == State::committed) {
        say_again();
        wait_for(patience().reply);
        retry_later();
    } else if (is_split_without_memory()) {
        tell_pages_lost();
        send(MessageKind::ask); // they may have come there since, or be lost there too
    }
    if (!is_connected_) {
        retry_later();
    }
}

void SourceOwner::doubt() {
    enter(State::in_doubt);
    retry_later();
}

/// Taking it back: the transition is made impossible first, then the guest goes on.
void SourceOwner::reclaim() {
    enter(State::reclaiming);
    if (is_shared()) {
        wish_ = RecordKind::reclaimed;
        ask_arbiter(wanted(), asker());
    } else {
        write(RecordKind::reclaimed, taken_back(epoch_));
    }
}

/// RECLAIMED is on the disk.
void SourceOwner::give_back_to_guest() {
    wish_.reset();
    epoch_ = record_->epoch;
    if (has_memory_) {
        enter(State::resuming);
        start_guest();
        return;
    }
    enter(State::lost);
    tell_taken_back();
}

void SourceOwner::serve() {
    become_committed(has_memory_ ? State::serving : State::split);
}
void SourceOwner::hear_lost() {
    if (has_memory_) {
        become_committed(State::split);
    } else {
        hand_off(); // nothing is here either: the VM is booted there
    }
}
void SourceOwner::tell_pages_lost() {
    send(MessageKind::pages_lost);
}

/// The destination's disk has it, and no page of it is needed from here.
void SourceOwner::hand_off() {
    enter(State::handing_off);
    write(RecordKind::handed_off, epoch_);
}

void SourceOwner::on_written() {
    switch (record_->kind) {
    case RecordKind::offered:
        if (is_shared()) {
            wish_ = RecordKind::offered;
            wait_for(patience().reply);
            ask_arbiter(wanted(), asker());
        }
        offer_if_ready();
        return;
    case RecordKind::committed:
        after_committed();
        return;
    case RecordKind::reclaimed:
        give_back_to_guest();
        return;
    case RecordKind::handed_off:
        enter(State::handed_off);
        drop_memory();
        return;
    case RecordKind::salvaged:
        enter(State::salvaged);
        return;
    case RecordKind::accepted:
    case RecordKind::running:
    case RecordKind::done:
    case RecordKind::abandoned:
        break;
    }
    formats::invariant(false, "a source writes a source's records");
}

/// OFFERED, and COMMITTED of arbiter `local`, may be on the disk or not: nobody was told, and
/// RECLAIMED overrules both.
bool SourceOwner::on_write_failed() {
    if (state_ == State::offering || state_ == State::committing) {
        reclaim();
        return false;
    }
    return true;
}

/// What the arbiter says counts, not what came of a request.
void SourceOwner::on_arbiter() {
    if (!is_undecided()) {
        return;
    }
    if (arbiter_says(RecordKind::reclaimed, taken_back(epoch_))) {
        enter(State::reclaiming);
        write(RecordKind::reclaimed, taken_back(epoch_));
    } else if (arbiter_is_beyond(epoch_)) {
        reason_ = "the arbiter's record is of a later hand-over of this VM, by someone else";
        doubt();
    } else if (arbiter_says(RecordKind::committed, epoch_) && !is_fenced_) {
        hear_committed();
    } else if (arbiter_says(RecordKind::offered, epoch_) && state_ == State::offering) {
        arbiter_has_offer_ = true;
        offer_if_ready();
    } else {
        pursue(wanted(), asker());
    }
}

void SourceOwner::hear_committed() {
    if (is_on_disk(RecordKind::committed)) {
        retry_later();
    } else {
        become_committed(State::committed);
    }
}

/// Not known is not taken back: it stays paused until the arbiter has spoken. But for what nobody
/// was offered, so that nobody can commit it.
void SourceOwner::on_arbiter_unreachable() {
    const bool is_wanted_back = state_ == State::offering || state_ == State::reclaiming;
    if (is_wanted_back && !offer_left_) {
        if (reason_.empty()) {
            reason_ = trouble();
        }
        enter(State::reclaiming);
        write(RecordKind::reclaimed, taken_back(epoch_));
    } else if (is_wanted_back) {
        wish_ = RecordKind::reclaimed;
        doubt();
    } else if (is_undecided()) {
        retry_later();
    }
}

void SourceOwner::on_wait_over() {
    reason_ = "no answer came in time";
    if (state_ == State::offering || state_ == State::offer) {
        reclaim();
    } else if (state_ == State::committed) {
        doubt();
    } else if (state_ == State::in_doubt && !is_on_disk(RecordKind::committed)) {
        reclaim(); // restarted: a whole copy there would have been heard of
    }
}

} // namespace wherry::migrate
