// SPDX-License-Identifier: Apache-2.0
// What both sides have in common: effects that are under way, what comes meanwhile, trying again.
#include "migrate/ownership/owner.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

/// More that comes while a record is written is taken for lost on its way.
constexpr std::size_t held_back_limit = 256;

template <typename Alternative>
bool is(const OwnershipEvent& event) {
    return std::holds_alternative<Alternative>(event);
}

} // namespace

Owner::Owner(std::optional<OwnershipRecord> last, Patience patience)
    : record_{std::move(last)},
      patience_{patience},
      next_retry_{patience.first_retry} {
    if (record_) {
        epoch_ = record_->epoch;
        attempt_ = {record_->arbiter, record_->migration_id, record_->pages_missing};
    }
}

OwnershipActions Owner::begin() {
    on_begin();
    return std::exchange(actions_, {});
}

OwnershipActions Owner::handle(const OwnershipEvent& event) {
    if (is_busy() && !is_answer_to_action(event)) {
        if (held_back_.size() < held_back_limit) {
            held_back_.push_back(event);
        }
        return {};
    }
    apply(event);
    apply_held_back();
    return std::exchange(actions_, {});
}

void Owner::apply_held_back() {
    while (!is_busy() && !held_back_.empty()) {
        const OwnershipEvent event = std::move(held_back_.front());
        held_back_.pop_front();
        apply(event);
    }
}

bool Owner::is_answer_to_action(const OwnershipEvent& event) const {
    return (is_writing_ && (is<event::RecordWritten>(event) || is<event::RecordFailed>(event))) ||
           (is_starting_ && (is<event::GuestStarted>(event) || is<event::GuestNotStarted>(event)));
}

void Owner::apply(const OwnershipEvent& event) {
    if (is<event::RecordWritten>(event)) {
        formats::invariant(is_writing_, "a record was written that this side asked for");
        is_writing_ = false;
        trouble_.clear();
        record_ = std::exchange(unwritten_, std::nullopt);
        on_written();
        return;
    }
    if (const auto* failed = std::get_if<event::RecordFailed>(&event)) {
        formats::invariant(is_writing_, "a record failed that this side asked for");
        is_writing_ = false;
        trouble_ = fmt::format(
            "{}({}) cannot be written: {}",
            name_of(unwritten_->kind),
            static_cast<std::uint64_t>(unwritten_->epoch),
            failed->reason);
        if (on_write_failed()) {
            retry_later();
        } else if (!is_writing_) {
            unwritten_.reset();
        }
        return;
    }
    if (const auto* expired = std::get_if<event::TimerExpired>(&event)) {
        on_timer(expired->serial);
        return;
    }
    if (is<event::GuestStarted>(event) || is<event::GuestNotStarted>(event)) {
        formats::invariant(is_starting_, "a guest was started that this side asked for");
        is_starting_ = false;
    } else if (const auto* says = std::get_if<event::ArbiterSays>(&event)) {
        is_asking_ = false;
        if (!is_shared()) {
            return; // a person has taken its place
        }
        is_arbiter_away_ = false;
        trouble_.clear();
        arbiter_record_ = says->record;
    } else if (const auto* unreachable = std::get_if<event::ArbiterUnreachable>(&event)) {
        is_asking_ = false;
        if (!is_shared()) {
            return;
        }
        is_arbiter_away_ = true;
        trouble_ =
            fmt::format("arbiter {} cannot be reached: {}", attempt_.arbiter, unreachable->reason);
    } else if (is<event::Connected>(event) || is<event::Disconnected>(event)) {
        is_connecting_ = false;
        is_connected_ = is<event::Connected>(event);
    }
    on_event(event);
}

void Owner::on_timer(std::uint64_t serial) {
    if (serial == wait_serial_) {
        wait_serial_ = 0;
        on_wait_over();
    } else if (serial == retry_serial_) {
        retry_serial_ = 0;
        if (unwritten_) {
            write(unwritten_->kind, unwritten_->epoch);
        } else {
            on_retry();
        }
    }
}

template <typename Call>
formats::Result<OwnershipActions> Owner::at_a_persons_word(Call call) {
    if (is_busy()) {
        return formats::fail(
            formats::ErrorCode::wrong_state,
            "a record is being written or the guest is being started; say it again in a moment");
    }
    auto done = call();
    if (!done) {
        return formats::fail(std::move(done).error());
    }
    return std::exchange(actions_, {});
}

formats::Result<OwnershipActions> Owner::resolve(Keep keep, Assurance assurance) {
    return at_a_persons_word([&] {
        return is_shared() && assurance == Assurance::arbiter_is_gone
                   ? resolve_without_arbiter(keep)
                   : on_resolve(keep, assurance);
    });
}
formats::Result<OwnershipActions> Owner::salvage() {
    return at_a_persons_word([&] { return on_salvage(); });
}
formats::Result<OwnershipActions> Owner::end_here() {
    return at_a_persons_word([&] { return on_end_here(); });
}
formats::Result<OwnershipActions> Owner::boot_again() {
    return at_a_persons_word([&] { return on_boot_again(); });
}

/// The person takes its place: from here on this attempt is one with arbiter `local`, on the disk
/// too, and what the other one may say yet does not count.
formats::Status Owner::resolve_without_arbiter(Keep keep) {
    if (!is_arbiter_away_) {
        return refuse(fmt::format(
            "arbiter {} has not failed to answer, and decides: do without --no-arbiter",
            attempt_.arbiter));
    }
    std::string name = std::exchange(attempt_.arbiter, "local");
    auto resolved = on_resolve(keep, Assurance::none);
    if (!resolved) {
        attempt_.arbiter = std::move(name);
    }
    return resolved;
}

void Owner::send(MessageKind kind, Epoch epoch) {
    add(action::Send{kind, epoch});
}

void Owner::write(RecordKind kind, Epoch epoch) {
    unwritten_ = OwnershipRecord{
        .kind = kind,
        .epoch = epoch,
        .pages_missing = attempt_.pages_missing,
        .arbiter = attempt_.arbiter,
        .migration_id = attempt_.migration_id};
    is_writing_ = true;
    add(action::WriteRecord{*unwritten_});
}

void Owner::start_guest() {
    is_starting_ = true;
    add(action::StartGuest{.from_memory = has_memory_});
}

void Owner::drop_memory() {
    has_memory_ = false;
    add(action::DropMemory{});
}

void Owner::connect() {
    if (!is_connecting_) {
        is_connecting_ = true;
        add(action::Connect{});
    }
}

void Owner::ask_arbiter(std::optional<ArbiterRecord> wanted, Asker asker) {
    if (!is_asking_) {
        is_asking_ = true;
        asked_for_ = wanted;
        add(action::AskArbiter{attempt_.arbiter, wanted, asker});
    }
}

void Owner::pursue(std::optional<ArbiterRecord> wanted, Asker asker) {
    if (asked_for_ == wanted) {
        retry_later();
    } else {
        ask_arbiter(wanted, asker);
    }
}

void Owner::arm(action::Timer timer, OwnershipDuration after, std::uint64_t& serial) {
    serial = ++last_serial_;
    add(action::Arm{timer, after, serial});
}

void Owner::wait_for(OwnershipDuration limit) {
    arm(action::Timer::wait, limit, wait_serial_);
}

void Owner::retry_later() {
    if (retry_serial_ == 0) {
        arm(action::Timer::retry, next_retry_, retry_serial_);
        next_retry_ = std::min(2 * next_retry_, patience_.longest_retry);
    }
}

void Owner::stop_timers() {
    if (std::exchange(wait_serial_, 0) != 0) {
        add(action::Disarm{action::Timer::wait});
    }
    if (std::exchange(retry_serial_, 0) != 0) {
        add(action::Disarm{action::Timer::retry});
    }
    next_retry_ = patience_.first_retry;
}

formats::Status Owner::refuse(std::string why) {
    return formats::fail(formats::ErrorCode::wrong_state, std::move(why));
}

std::string Owner::with_trouble(std::string sentence) const {
    if (!trouble_.empty()) {
        sentence += fmt::format(" ({}; tried again)", trouble_);
    }
    return sentence;
}

} // namespace wherry::migrate
