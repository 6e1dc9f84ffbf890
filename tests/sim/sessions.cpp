// SPDX-License-Identifier: Apache-2.0
// What the sessions of both sides do beside their owner: stop the guest, send and load memory,
// serve and place pages. Some of the weaknesses are here, where they belong.
#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/source_owner.hpp"
#include "tests/sim/process.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::sim {

using namespace std::chrono_literals;
using namespace wherry::migrate;

namespace {

constexpr Patience patience{
    .reply = 2s, .rescue = 3s, .first_retry = 100ms, .longest_retry = 800ms};

constexpr std::array<bool, page_count> all_pages{true, true, true};

bool are_all(const std::array<bool, page_count>& pages) {
    return std::ranges::all_of(pages, [](bool is_so) { return is_so; });
}

} // namespace

SourceProcess::SourceProcess(World& world, Wire& wire, Arbiter& arbiter, unsigned attempts)
    : Process{world, wire, arbiter, Where::source},
      attempts_left_{attempts} {}

std::unique_ptr<Owner> SourceProcess::make_owner() {
    return SourceOwner::restarted(disk_, patience);
}

void SourceProcess::begin() {
    world_.witness.starts(Where::source, Epoch{}, memory_, false);
    memory_.pages = all_pages;
    attempt_ = {
        .arbiter = world_.schedule.is_shared ? "file:/arbiter" : "local",
        .migration_id = "m",
        .pages_missing = world_.schedule.is_hybrid};
    start(SourceOwner::holding(Epoch{}, std::nullopt, patience));
}

void SourceProcess::on_crash() {
    is_attempt_planned_ = false;
    sent_ = {};
}

void SourceProcess::on_moved() {
    const std::string_view now = state();
    if (now == "reclaimed" && has(Weakness::epoch_does_not_advance) && disk_ &&
        disk_->epoch < owner_->epoch()) {
        start(SourceOwner::holding(disk_->epoch, disk_, patience));
        return;
    }
    if ((now == "precopy" || now == "reclaimed") && attempts_left_ > 0 && !is_attempt_planned_) {
        is_attempt_planned_ = true;
        later(world_.random.between(20ms, 600ms), [this] { try_attempt(); });
        world_.moved();
    }
    if (now == "serving") {
        push_pages();
    }
}

/// A guest that runs here, and a connection: else there is nothing to begin with.
void SourceProcess::try_attempt() {
    is_attempt_planned_ = false;
    if (attempts_left_ == 0 || !runs()) {
        return;
    }
    --attempts_left_;
    if (wire_.is_up()) {
        stop_guest();
        return;
    }
    wire_.connect();
    later(100ms, [this] {
        if (wire_.is_up() && runs() && (state() == "precopy" || state() == "reclaimed")) {
            stop_guest();
        } else {
            on_moved();
        }
    });
}

void SourceProcess::stop_guest() {
    if (!point()) {
        return;
    }
    note("THE GUEST STANDS STILL");
    world_.count("hand-overs begun");
    world_.witness.stops(Where::source);
    sent_ = {};
    feed(event::GuestStopped{attempt_});
    later(world_.random.between(0ms, 20ms), [this] {
        if (state() != "offering") {
            return;
        }
        Parcel parcel;
        parcel.kind = Parcel::Kind::data;
        parcel.epoch = owner_->epoch();
        parcel.attempt = attempt_;
        parcel.memory = memory_;
        parcel.memory.pages = attempt_.pages_missing ? std::array<bool, page_count>{} : all_pages;
        wire_.send(where_, std::move(parcel));
        feed(event::AllSent{});
    });
}

Parcel SourceProcess::parcel_for(MessageKind message, Epoch epoch) {
    Parcel parcel;
    parcel.message = message;
    parcel.epoch = epoch;
    parcel.attempt = attempt_;
    return parcel;
}

void SourceProcess::on_arrival(const Parcel& parcel) {
    if (parcel.message == MessageKind::running && parcel.epoch == owner_->epoch()) {
        sent_ = parcel.memory.pages; // what is there need not be sent again
    }
    feed(event::Received{parcel.message, parcel.epoch});
}

void SourceProcess::push_pages() {
    for (std::size_t page = 0; page < page_count; ++page) {
        if (!std::exchange(sent_[page], true)) {
            Parcel parcel;
            parcel.kind = Parcel::Kind::page;
            parcel.epoch = owner_->epoch();
            parcel.page = page;
            wire_.send(where_, std::move(parcel));
        }
    }
    if (has(Weakness::forgets_after_last_page)) {
        later(0ms, [this] { feed(event::Received{MessageKind::complete, owner_->epoch()}); });
    }
}

std::optional<OwnershipEvent> SourceProcess::instead_of_timer(action::Timer timer) {
    if (timer == action::Timer::wait && state() == "committed") {
        if (has(Weakness::resumes_after_commit)) {
            return event::Received{MessageKind::refused, owner_->epoch()};
        }
        if (has(Weakness::forgets_on_timeout)) {
            return event::Received{MessageKind::running, owner_->epoch()};
        }
    }
    return std::nullopt;
}

void DestinationProcess::begin() {
    start(DestinationOwner::restarted(std::nullopt, patience));
}

DestinationProcess::DestinationProcess(World& world, Wire& wire, Arbiter& arbiter)
    : Process{world, wire, arbiter, Where::destination} {}

std::unique_ptr<Owner> DestinationProcess::make_owner() {
    auto record = disk_;
    if (has(Weakness::gives_back_after_running) && record && record->kind == RecordKind::running) {
        record->kind = RecordKind::accepted;
    }
    return DestinationOwner::restarted(std::move(record), patience);
}

void DestinationProcess::on_arrival(const Parcel& parcel) {
    if (parcel.kind == Parcel::Kind::data) {
        attempt_ = parcel.attempt;
        filled_ = parcel;
        load_if_there();
    } else if (parcel.kind == Parcel::Kind::page) {
        place(parcel);
    } else if (parcel.message == MessageKind::offer) {
        attempt_ = parcel.attempt;
        feed(event::Offered{parcel.epoch, parcel.attempt});
        load_if_there();
    } else {
        feed(event::Received{parcel.message, parcel.epoch});
    }
}

/// Only what belongs to the offer that is being accepted is that guest.
void DestinationProcess::load_if_there() {
    if (!is_up_ || !filled_ || state() != "accepting" || filled_->epoch != owner_->epoch()) {
        return;
    }
    memory_ = filled_->memory;
    later(world_.random.between(1ms, 30ms), [this, epoch = filled_->epoch] {
        if (filled_ && filled_->epoch == epoch) {
            feed(event::Loaded{epoch});
        }
    });
}

void DestinationProcess::place(const Parcel& parcel) {
    if (state() != "faulting" || parcel.epoch != owner_->epoch()) {
        return;
    }
    bool& is_there = memory_.pages[parcel.page];
    if (is_there && !has(Weakness::old_page_overwrites)) {
        return;
    }
    world_.witness.places(is_there);
    is_there = true;
    world_.moved();
    if (are_all(memory_.pages)) {
        feed(event::LastPagePlaced{});
    }
}

Parcel DestinationProcess::parcel_for(MessageKind message, Epoch epoch) {
    Parcel parcel;
    parcel.message = message;
    parcel.epoch = epoch;
    parcel.memory = memory_;
    return parcel;
}

std::optional<OwnershipEvent> DestinationProcess::instead_of_timer(action::Timer timer) {
    if (timer == action::Timer::wait && state() == "accepted" && has(Weakness::starts_on_timeout)) {
        return event::Received{MessageKind::commit, owner_->epoch()};
    }
    return std::nullopt;
}

} // namespace wherry::sim
