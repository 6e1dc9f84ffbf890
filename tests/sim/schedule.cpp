// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/schedule.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::sim {

namespace {

using namespace std::chrono_literals;

constexpr std::array<std::string_view, fault_kinds> fault_names{
    "crash",
    "freeze",
    "disk fault",
    "cut",
    "stall",
    "duplicate",
    "arbiter cut",
    "late request",
    "cancel",
    "session failure",
    "failing start",
    "careless resolve"};

constexpr std::array<std::string_view, weaknesses> weakness_names{
    "none",
    "commit-before-its-record",
    "epoch-does-not-advance",
    "resumes-without-its-record",
    "runs-without-its-record",
    "starts-on-timeout",
    "resumes-after-commit",
    "forgets-on-timeout",
    "drops-memory-at-commit",
    "gives-back-after-running",
    "resumes-without-arbiter",
    "believes-its-request",
    "old-page-overwrites",
    "forgets-after-last-page"};

/// How many occasions of a kind a side has in a run without faults, roughly.
unsigned occasions(FaultKind kind) {
    switch (kind) {
    case FaultKind::disk:
        return 4;
    case FaultKind::start_fails:
        return 2;
    case FaultKind::duplicate:
    case FaultKind::arbiter_late:
        return 6;
    case FaultKind::crash:
    case FaultKind::freeze:
    case FaultKind::cut:
    case FaultKind::stall:
    case FaultKind::arbiter_cut:
    case FaultKind::cancel:
    case FaultKind::session_failure:
    case FaultKind::careless:
        return 40;
    }
    return 1;
}

/// What matters most comes most often.
constexpr std::array common_faults{
    FaultKind::crash,
    FaultKind::crash,
    FaultKind::crash,
    FaultKind::cut,
    FaultKind::cut,
    FaultKind::cut,
    FaultKind::disk,
    FaultKind::disk,
    FaultKind::duplicate,
    FaultKind::stall,
    FaultKind::freeze,
    FaultKind::cancel,
    FaultKind::session_failure,
    FaultKind::start_fails};
constexpr std::array arbiter_faults{
    FaultKind::arbiter_cut, FaultKind::arbiter_late, FaultKind::careless};

Fault make_fault(Random& random, const Schedule& schedule) {
    Fault fault;
    const bool is_arbiters = schedule.is_shared && random.one_in(3);
    fault.kind = is_arbiters ? arbiter_faults[random.below(arbiter_faults.size())]
                             : common_faults[random.below(common_faults.size())];
    fault.where = random.one_in(2) ? Where::source : Where::destination;
    fault.at = 1 + static_cast<unsigned>(random.below(occasions(fault.kind) * schedule.attempts));
    fault.flag = random.one_in(2);
    const bool is_for_good = (fault.kind == FaultKind::crash || fault.kind == FaultKind::cut ||
                              fault.kind == FaultKind::arbiter_cut) &&
                             random.one_in(4);
    fault.lasts = is_for_good ? Duration{} : random.between(10ms, random.one_in(2) ? 300ms : 6s);
    return fault;
}

} // namespace

std::uint64_t Random::next() noexcept {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

Duration Random::between(Duration from, Duration to) noexcept {
    return from + Duration{below(static_cast<std::uint64_t>((to - from).count()) + 1)};
}

std::string_view name_of(Where where) noexcept {
    return where == Where::source ? "source" : "destination";
}
std::string_view name_of(FaultKind kind) noexcept {
    return fault_names[static_cast<std::size_t>(kind)];
}
std::string_view name_of(Weakness weakness) noexcept {
    return weakness_names[static_cast<std::size_t>(weakness)];
}
std::optional<Weakness> weakness_from(std::string_view name) noexcept {
    for (std::size_t i = 0; i < weakness_names.size(); ++i) {
        if (weakness_names[i] == name) {
            return static_cast<Weakness>(i);
        }
    }
    return std::nullopt;
}

Schedule make_schedule(std::uint64_t seed, Weakness weakness) {
    Random random{seed};
    Schedule schedule;
    schedule.seed = seed;
    schedule.weakness = weakness;
    schedule.is_shared = random.one_in(2);
    schedule.is_hybrid = random.one_in(3);
    schedule.attempts = 1 + static_cast<unsigned>(random.below(3));
    const std::uint64_t faults = random.below(7);
    for (std::uint64_t i = 0; i < faults; ++i) {
        schedule.faults.push_back(make_fault(random, schedule));
        schedule.faults.back().number = i;
    }
    schedule.source_is_gone = random.one_in(8);
    schedule.destination_is_gone = random.one_in(8);
    schedule.link_stays_down = random.one_in(8);
    schedule.arbiter_is_gone = schedule.is_shared && random.one_in(8);
    return schedule;
}

void keep_only(Schedule& schedule, const std::vector<std::size_t>& numbers) {
    std::erase_if(schedule.faults, [&](const Fault& fault) {
        return std::ranges::find(numbers, fault.number) == numbers.end();
    });
}

std::string words_for(const Fault& fault) {
    std::string words = fmt::format(
        "{} of the {}, occasion {}", name_of(fault.kind), name_of(fault.where), fault.at);
    words += fault.lasts == Duration{}
                 ? ", until all is repaired"
                 : fmt::format(
                       ", {} ms",
                       std::chrono::duration_cast<std::chrono::milliseconds>(fault.lasts).count());
    return words + (fault.flag ? ", flagged" : "");
}

std::string words_for(const Schedule& schedule) {
    std::string words = fmt::format(
        "seed {}: arbiter {}, {}, {} attempt(s)\n",
        schedule.seed,
        schedule.is_shared ? "shared" : "local",
        schedule.is_hybrid ? "hybrid" : "pre-copy",
        schedule.attempts);
    for (const Fault& fault : schedule.faults) {
        words += fmt::format("  fault {}: {}\n", fault.number, words_for(fault));
    }
    const auto add = [&](bool is_so, std::string_view what) {
        if (is_so) {
            words += fmt::format("  for good: {}\n", what);
        }
    };
    add(schedule.source_is_gone, "a source that is down then is gone");
    add(schedule.destination_is_gone, "a destination that is down then is gone");
    add(schedule.link_stays_down, "no connection after the repair");
    add(schedule.arbiter_is_gone, "an arbiter that is cut off then is gone");
    return words;
}

} // namespace wherry::sim
