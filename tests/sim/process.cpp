// SPDX-License-Identifier: Apache-2.0
// How a process carries out actions, and what can happen to it on the way.
#include "tests/sim/process.hpp"

#include "tests/support/ownership_words.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::sim {

using namespace std::chrono_literals;
using namespace wherry::migrate;
using tests::words_for;

Process::Process(World& world, Wire& wire, Arbiter& arbiter, Where where)
    : world_{world},
      wire_{wire},
      arbiter_{arbiter},
      where_{where} {
    wire_.attach(
        where,
        {.arrived =
             [this](const Parcel& parcel) { later(0ms, [this, parcel] { on_arrival(parcel); }); },
         .disconnected =
             [this](const std::string& reason) {
                 later(0ms, [this, reason] { feed(event::Disconnected{reason}); });
             },
         .connected =
             [this] {
                 later(0ms, [this] {
                     on_connected();
                     // What the source says of itself comes first on each connection.
                     feed(event::Connected{where_ == Where::source ? attempt_ : other_->attempt_});
                 });
             },
         .answers = [this] { return answers(); },
         .life =
             [this] {
                 return is_up_ ? life_ : 0;
             }});
}

void Process::start(std::unique_ptr<Owner> owner) {
    owner_ = std::move(owner);
    add(owner_->begin());
    see_state();
}

std::string_view Process::state() const {
    return is_up_ ? owner_->status().state : "down";
}

void Process::later(Duration delay, Clock::Call call) {
    world_.clock.after(delay, [this, life = life_, call = std::move(call)] {
        if (!is_up_ || life != life_) {
            return;
        }
        if (is_frozen_) {
            frozen_.push_back(call);
        } else {
            call();
        }
    });
}

bool Process::point() {
    const std::uint64_t life = life_;
    ++points_;
    if (!world_.is_calm) {
        for (const Fault& fault : world_.schedule.faults) {
            if (fault.where == where_ && fault.at == points_) {
                meet(fault);
            }
        }
    }
    return is_up_ && life == life_;
}

void Process::meet(const Fault& fault) {
    switch (fault.kind) {
    case FaultKind::crash:
        crash(fault);
        return;
    case FaultKind::freeze:
        world_.count("freezes");
        note("is frozen");
        is_frozen_ = true;
        world_.disturb(fault.lasts, [this] { thaw(); });
        return;
    case FaultKind::cut:
        world_.note("wire", "is cut");
        wire_.cut(fault);
        return;
    case FaultKind::stall:
        wire_.stall(fault);
        return;
    case FaultKind::arbiter_cut:
        note("is cut off from the arbiter");
        arbiter_.cut(where_, fault);
        return;
    case FaultKind::cancel:
        world_.count("cancels");
        later(0ms, [this] { feed(event::Cancelled{}); });
        return;
    case FaultKind::session_failure:
        world_.count("session failures");
        later(0ms, [this] { feed(event::Failed{"the session failed"}); });
        return;
    case FaultKind::careless:
        // Where the arbiter has committed the VM, --keep destination needs someone who has looked.
        if (attempt_.has_shared_arbiter() && disk_ && disk_->kind != RecordKind::committed) {
            const Keep keep = fault.flag ? Keep::destination : Keep::source;
            later(0ms, [this, keep] { (void)resolve(keep, Assurance::none); });
        }
        return;
    case FaultKind::disk:
    case FaultKind::duplicate:
    case FaultKind::arbiter_late:
    case FaultKind::start_fails:
        return; // counted by other occasions
    }
}

void Process::thaw() {
    is_frozen_ = false;
    for (Clock::Call& call : std::exchange(frozen_, {})) {
        later(0ms, std::move(call));
    }
}

void Process::crash(const Fault& fault) {
    if (!is_up_) {
        return;
    }
    note("CRASHES");
    world_.count("crashes");
    world_.moved();
    is_up_ = false;
    is_frozen_ = false;
    is_working_ = false;
    is_booting_ = false;
    ++life_;
    ++crashes_;
    to_do_.clear();
    frozen_.clear();
    memory_ = {};
    world_.witness.stops(where_);
    on_crash();
    wire_.died(where_);
    if (fault.lasts != Duration{}) {
        world_.disturb(fault.lasts, [this] { restart(); });
    }
}

void Process::restart() {
    if (is_up_) {
        return;
    }
    note("starts again with " + (disk_ ? words_for(*disk_) : std::string{"no record"}));
    is_up_ = true;
    if (disk_) {
        attempt_ = {disk_->arbiter, disk_->migration_id, disk_->pages_missing};
    }
    start(make_owner());
}

void Process::feed(const OwnershipEvent& event) {
    if (!point()) {
        return;
    }
    note("hears: " + (world_.is_traced() ? words_for(event) : std::string{}));
    add(owner_->handle(event));
    see_state();
}

void Process::see_state() {
    const std::string_view now = state();
    if (now != last_state_) {
        last_state_ = now;
        world_.moved();
        note("is " + last_state_);
        if (now == "in-doubt") {
            world_.count(where_ == Where::source ? "in doubt, source" : "in doubt, destination");
        }
    }
    boot_if_lost();
    on_moved();
}

/// Whoever runs VMs boots what is theirs and died.
void Process::boot_if_lost() {
    if (is_booting_ || last_state_ != "lost") {
        return;
    }
    is_booting_ = true;
    later(world_.random.between(50ms, 400ms), [this] {
        is_booting_ = false;
        auto booted = owner_->boot_again();
        if (booted) {
            world_.count("booted again");
            add(*std::move(booted));
            see_state();
        }
    });
}

void Process::add(OwnershipActions actions) {
    for (OwnershipAction& action : actions) {
        to_do_.push_back(std::move(action));
    }
    work();
}

void Process::work() {
    if (is_working_ || to_do_.empty()) {
        return;
    }
    is_working_ = true;
    later(world_.random.between(0ms, 2ms), [this] {
        const OwnershipAction action = std::move(to_do_.front());
        to_do_.pop_front();
        if (!point()) {
            return;
        }
        note("does: " + (world_.is_traced() ? words_for(action) : std::string{}));
        const std::uint64_t life = life_;
        carry_out(action);
        if (is_up_ && life == life_ && point()) {
            is_working_ = false;
            work();
        }
    });
}

void Process::carry_out(const OwnershipAction& action) {
    if (const auto* send = std::get_if<action::Send>(&action)) {
        if (send->kind == MessageKind::commit && has(Weakness::drops_memory_at_commit)) {
            memory_ = {};
        }
        wire_.send(where_, parcel_for(send->kind, send->epoch));
    } else if (const auto* record = std::get_if<action::WriteRecord>(&action)) {
        write(record->record);
    } else if (const auto* start = std::get_if<action::StartGuest>(&action)) {
        start_guest(*start);
    } else if (std::holds_alternative<action::StopGuest>(action)) {
        world_.witness.stops(where_);
    } else if (std::holds_alternative<action::DropMemory>(action)) {
        memory_ = {};
        on_crash(); // the session's part of it too
    } else if (const auto* question = std::get_if<action::AskArbiter>(&action)) {
        ask(*question);
    } else if (std::holds_alternative<action::Connect>(action)) {
        wire_.connect();
    } else if (const auto* arm = std::get_if<action::Arm>(&action)) {
        expire(*arm);
    }
}

void Process::expire(const action::Arm& arm) {
    // One that was replaced or ended expires for nothing: its serial is old.
    later(std::chrono::duration_cast<Duration>(arm.after), [this, arm] {
        const auto instead = instead_of_timer(arm.timer);
        feed(instead ? *instead : OwnershipEvent{event::TimerExpired{arm.serial}});
    });
}

void Process::write(const OwnershipRecord& record) {
    ++writes_;
    world_.count("records");
    if (record.kind == RecordKind::committed && has(Weakness::commit_before_its_record)) {
        wire_.send(where_, parcel_for(MessageKind::commit, record.epoch));
    }
    later(world_.random.between(1ms, 8ms), [this, record, number = writes_] {
        if (!point()) { // before the fsync
            return;
        }
        if (const Fault* fault = world_.due(FaultKind::disk, where_, number)) {
            world_.count("disk faults");
            note(fault->flag ? "the disk fails, after the record" : "the disk fails");
            if (fault->flag) {
                put_on_disk(record);
            }
            feed(event::RecordFailed{"no space left on device"});
            return;
        }
        put_on_disk(record);
        if (point()) { // after it
            feed(event::RecordWritten{});
        }
    });
}

void Process::put_on_disk(const OwnershipRecord& record) {
    const bool is_forgotten =
        (record.kind == RecordKind::reclaimed && has(Weakness::resumes_without_its_record)) ||
        (record.kind == RecordKind::running && has(Weakness::runs_without_its_record));
    if (is_forgotten) {
        return;
    }
    world_.moved();
    const bool is_said_again = disk_ && disk_->kind == record.kind && disk_->epoch == record.epoch;
    disk_ = record;
    if (record.kind == RecordKind::reclaimed && has(Weakness::epoch_does_not_advance)) {
        disk_->epoch = Epoch{static_cast<std::uint64_t>(record.epoch) - 2};
    }
    if (!is_said_again) { // as by a person who takes an arbiter's place
        world_.witness.sees_record(where_, record, other_->disk(), memory_, is_a_persons_word_);
    }
}

void Process::start_guest(const action::StartGuest& start) {
    ++starts_;
    if (world_.due(FaultKind::start_fails, where_, starts_) != nullptr) {
        world_.count("failing starts");
        later(1ms, [this] { feed(event::GuestNotStarted{"the start failed"}); });
        return;
    }
    note(start.from_memory ? "THE GUEST RUNS" : "THE GUEST IS BOOTED");
    world_.witness.starts(where_, owner_->epoch(), memory_, start.from_memory && !old_may_run_);
    world_.moved();
    later(1ms, [this] { feed(event::GuestStarted{}); });
}

void Process::ask(const action::AskArbiter& ask) {
    const auto answered = [this, life = life_, wanted = ask.wanted](
                              bool reached, std::optional<ArbiterRecord> record) {
        if (!is_up_ || life != life_) {
            return;
        }
        if (wanted && has(Weakness::believes_its_request)) {
            record = wanted;
        }
        if (!reached && has(Weakness::resumes_without_arbiter) && where_ == Where::source) {
            reached = true;
            record = ArbiterRecord{RecordKind::reclaimed, taken_back(owner_->epoch())};
        }
        later(0ms, [this, reached, record] {
            feed(
                reached ? OwnershipEvent{event::ArbiterSays{record}}
                        : OwnershipEvent{event::ArbiterUnreachable{"no answer"}});
        });
    };
    arbiter_.ask(where_, ask.wanted, ask.asker, answered);
}

bool Process::resolve(Keep keep, Assurance assurance) {
    auto done = owner_->resolve(keep, assurance);
    note(fmt::format(
        "a person says --keep {}{}",
        keep == Keep::source ? "source" : "destination",
        done ? "" : ", refused: " + done.error().text()));
    if (!done) {
        return false;
    }
    world_.count("resolves");
    is_a_persons_word_ = world_.is_calm && keep == Keep::destination;
    add(*std::move(done));
    see_state();
    return true;
}

bool Process::salvage() {
    auto done = owner_->salvage();
    note(done ? "a person salvages" : "a person salvages, refused: " + done.error().text());
    if (!done) {
        return false;
    }
    world_.count("salvages");
    add(*std::move(done));
    see_state();
    return true;
}

} // namespace wherry::sim
