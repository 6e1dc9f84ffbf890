// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/world.hpp"

#include "tests/support/ownership_words.hpp"

#include <fmt/format.h>

namespace wherry::sim {

using namespace std::chrono_literals;

void World::note(std::string_view who, const std::string& what) {
    if (tell_) {
        tell_(
            fmt::format("{:>10.3f} ms  {:<12} {}", double(clock.now().count()) / 1000, who, what));
    }
}

void World::disturb(Duration delay, Clock::Call call) {
    ++disturbances;
    clock.after(delay, [this, call = std::move(call)] {
        --disturbances;
        moved();
        call();
    });
}

const Fault* World::due(FaultKind kind, Where where, unsigned at) const {
    if (is_calm) {
        return nullptr;
    }
    for (const Fault& fault : schedule.faults) {
        if (fault.kind == kind && fault.where == where && fault.at == at) {
            return &fault;
        }
    }
    return nullptr;
}

void Arbiter::carry_out(const migrate::ArbiterRecord& wanted, migrate::Asker asker) {
    const bool may = may_follow(record_, wanted, asker);
    world_.note(
        "arbiter",
        fmt::format(
            "{}: {}",
            tests::words_for(wanted),
            may ? "done" : "refused, " + tests::words_for(record_)));
    if (may) {
        record_ = wanted;
        world_.moved();
    }
}

void Arbiter::ask(
    Where from, std::optional<migrate::ArbiterRecord> wanted, migrate::Asker asker, Answer answer) {
    constexpr Duration limit = 300ms;
    const auto side = static_cast<std::size_t>(from);
    const unsigned number = ++asked_[side];
    if (!reaches(from)) {
        world_.clock.after(limit, [answer] { answer(false, std::nullopt); });
        return;
    }
    if (const Fault* late = world_.due(FaultKind::arbiter_late, from, number); late && wanted) {
        world_.count("late requests");
        world_.disturb(limit + late->lasts, [this, wanted, asker] { carry_out(*wanted, asker); });
        world_.clock.after(limit, [answer] { answer(false, std::nullopt); });
        return;
    }
    const Duration way = world_.random.between(1ms, 30ms);
    world_.clock.after(way, [this, from, side, number, wanted, asker, answer] {
        if (number < lost_below_[side]) {
            world_.note("arbiter", "a request was lost");
        } else if (wanted) {
            carry_out(*wanted, asker);
        }
        const auto seen = record_;
        world_.clock.after(world_.random.between(1ms, 30ms), [this, from, seen, answer] {
            answer(reaches(from), seen);
        });
    });
}

void Arbiter::cut(Where from, const Fault& fault) {
    world_.count("arbiter cuts");
    reaches(from) = false;
    const auto side = static_cast<std::size_t>(from);
    if (fault.flag) {
        lost_below_[side] = asked_[side] + 1;
    }
    if (fault.lasts != Duration{}) {
        world_.disturb(fault.lasts, [this, from] { reaches(from) = true; });
    }
}

} // namespace wherry::sim
