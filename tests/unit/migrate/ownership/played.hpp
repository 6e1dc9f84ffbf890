// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/source_owner.hpp"
#include "tests/support/ownership_words.hpp"

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace wherry::tests {

using namespace std::chrono_literals;

inline constexpr migrate::Patience patience{
    .reply = 30s, .rescue = 60s, .first_retry = 200ms, .longest_retry = 3s};

inline migrate::Attempt local(bool pages_missing = false) {
    return {.arbiter = "local", .migration_id = "m", .pages_missing = pages_missing};
}
inline migrate::Attempt shared(bool pages_missing = false) {
    return {.arbiter = "file:/arbiter", .migration_id = "m", .pages_missing = pages_missing};
}
inline migrate::OwnershipRecord
record(migrate::RecordKind kind, std::uint64_t epoch, const migrate::Attempt& attempt) {
    return {
        kind, migrate::Epoch{epoch}, attempt.pages_missing, attempt.arbiter, attempt.migration_id};
}
inline migrate::OwnershipEvent said(migrate::MessageKind kind, std::uint64_t epoch) {
    return migrate::event::Received{kind, migrate::Epoch{epoch}};
}
inline migrate::OwnershipEvent says(migrate::RecordKind kind, std::uint64_t epoch) {
    return migrate::event::ArbiterSays{migrate::ArbiterRecord{kind, migrate::Epoch{epoch}}};
}
inline const migrate::OwnershipEvent written = migrate::event::RecordWritten{};
inline const migrate::OwnershipEvent unwritten = migrate::event::RecordFailed{"no space"};
inline const migrate::OwnershipEvent started = migrate::event::GuestStarted{};
inline const migrate::OwnershipEvent unreachable = migrate::event::ArbiterUnreachable{"no route"};
inline const migrate::OwnershipEvent cancelled = migrate::event::Cancelled{};
inline const migrate::OwnershipEvent cut = migrate::event::Disconnected{"cut"};

/// A machine and what it was told to do, in words; its timers expire when told to.
template <typename Machine>
class Played {
public:
    explicit Played(std::unique_ptr<Machine> machine) : machine_{std::move(machine)} {
        first_words = take(machine_->begin());
    }

    /// What is to be done on `event`; timers are kept and not told.
    std::string operator()(const migrate::OwnershipEvent& event) {
        return take(machine_->handle(event));
    }
    std::string play(std::initializer_list<migrate::OwnershipEvent> events) {
        std::string last;
        for (const migrate::OwnershipEvent& event : events) {
            last = (*this)(event);
        }
        return last;
    }
    std::string
    resolve(migrate::Keep keep, migrate::Assurance assurance = migrate::Assurance::none) {
        return take(machine_->resolve(keep, assurance));
    }
    std::string salvage() { return take(machine_->salvage()); }
    std::string end_here() { return take(machine_->end_here()); }
    std::string boot_again() { return take(machine_->boot_again()); }
    /// "no timer" if none of that kind is armed.
    std::string expire(migrate::action::Timer timer) {
        const auto found = armed_.find(timer);
        if (found == armed_.end()) {
            return "no timer";
        }
        const std::uint64_t serial = found->second.serial;
        armed_.erase(found);
        return (*this)(migrate::event::TimerExpired{serial});
    }
    [[nodiscard]] bool is_armed(migrate::action::Timer timer) const {
        return armed_.contains(timer);
    }
    [[nodiscard]] migrate::action::Arm armed(migrate::action::Timer timer) const {
        return armed_.at(timer);
    }

    [[nodiscard]] std::string state() const { return std::string{machine_->status().state}; }
    [[nodiscard]] std::string sentence() const { return machine_->status().sentence; }
    [[nodiscard]] std::uint64_t epoch() const {
        return static_cast<std::uint64_t>(machine_->epoch());
    }
    [[nodiscard]] migrate::Custody custody() const { return machine_->status().custody; }
    Machine& machine() { return *machine_; }

    std::string first_words;

private:
    std::string take(const migrate::OwnershipActions& actions) {
        for (const auto& action : actions) {
            if (const auto* arm = std::get_if<migrate::action::Arm>(&action)) {
                armed_.insert_or_assign(arm->timer, *arm);
            } else if (const auto* disarm = std::get_if<migrate::action::Disarm>(&action)) {
                armed_.erase(disarm->timer);
            }
        }
        return words_for(actions);
    }
    std::string take(const formats::Result<migrate::OwnershipActions>& actions) {
        return actions ? take(*actions) : "refused";
    }

    std::unique_ptr<Machine> machine_;
    std::map<migrate::action::Timer, migrate::action::Arm> armed_;
};

} // namespace wherry::tests
