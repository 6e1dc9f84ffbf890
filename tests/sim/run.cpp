// SPDX-License-Identifier: Apache-2.0
// From the first step of a schedule to its judgement.
#include "tests/sim/run.hpp"

#include "tests/sim/process.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace wherry::sim {

using namespace std::chrono_literals;
using namespace wherry::migrate;

namespace {

/// Longer than all that moves by itself takes between two changes, retries included.
constexpr Duration rest = 4s;
constexpr Duration longest_run = 600s;
constexpr int most_words_of_a_person = 12;

/// Where a side may stay for good; each says why.
constexpr std::array<std::string_view, 13> resting_states{
    "down",
    "idle",
    "precopy",
    "in-doubt",
    "serving",
    "reclaimed",
    "handed-off",
    "lost",
    "split",
    "salvaged",
    "faulting",
    "done",
    "abandoned"};

bool is_one_of(std::string_view state, std::initializer_list<std::string_view> states) {
    return std::ranges::find(states, state) != states.end();
}

class Run {
public:
    Run(const Schedule& schedule, World::Tell tell)
        : world_{schedule, std::move(tell)},
          source_{world_, wire_, arbiter_, schedule.attempts},
          destination_{world_, wire_, arbiter_} {
        source_.set_other(destination_);
        destination_.set_other(source_);
    }

    Outcome play() {
        destination_.begin();
        source_.begin();
        wire_.start();
        until_at_rest();
        check_names();
        repair();
        until_at_rest();
        check_names();
        check_nobody_needs_to_be_asked();
        a_person_helps();
        check_end();
        return {world_.witness.violation(), end(), std::move(world_.counts)};
    }

private:
    void until_at_rest();
    void check_names();
    void repair();
    void check_nobody_needs_to_be_asked();
    void a_person_helps();
    bool a_person_acts();
    bool person_on_salvage();
    bool person_on_doubt();
    bool person_boots_elsewhere();
    bool resolve(Process& side, Keep keep, Assurance with_arbiter = Assurance::none);
    [[nodiscard]] bool destination_has_run() const;
    void check_end();
    std::string end() const;

    [[nodiscard]] bool is_violated() const { return world_.witness.violation().has_value(); }
    [[nodiscard]] bool is_source(std::initializer_list<std::string_view> states) const {
        return is_one_of(source_.state(), states);
    }
    [[nodiscard]] bool is_destination(std::initializer_list<std::string_view> states) const {
        return is_one_of(destination_.state(), states);
    }
    void violated(std::string property) {
        world_.witness.violated(
            std::move(property),
            fmt::format(
                "the source is {}, the destination {}", source_.state(), destination_.state()));
    }

    World world_;
    Wire wire_{world_};
    Arbiter arbiter_{world_};
    SourceProcess source_;
    DestinationProcess destination_;
    bool source_is_gone_ = false;
    bool destination_is_gone_ = false;
    bool link_is_gone_ = false;
    bool arbiter_is_gone_ = false;
};

void Run::until_at_rest() {
    world_.moved();
    const Duration begun = world_.clock.now();
    while (!world_.clock.is_empty() && !is_violated() &&
           (world_.disturbances > 0 || world_.clock.now() - world_.last_move < rest)) {
        world_.clock.step();
        if (world_.clock.now() - begun > longest_run) {
            violated("a run without an end");
        }
    }
}

/// NEVER NONE WITHOUT A NAME, and no wait beyond its time.
void Run::check_names() {
    if (is_violated()) {
        return;
    }
    for (const Process* process :
         {static_cast<const Process*>(&source_), static_cast<const Process*>(&destination_)}) {
        if (std::ranges::find(resting_states, process->state()) == resting_states.end() ||
            (process->is_up() && process->sentence().empty())) {
            violated("a wait beyond its time");
        }
    }
    const auto& held = source_.disk();
    const bool runs_once = world_.witness.running() == 1;
    const bool is_named = is_source({"in-doubt", "split", "lost", "salvaged"}) ||
                          is_destination({"in-doubt", "split", "lost", "salvaged"});
    const bool source_is_down_with_it =
        !source_.is_up() && !(held && held->kind == RecordKind::handed_off);
    const bool destination_is_down_with_it = !destination_.is_up() && destination_has_run();
    if (!runs_once && !is_named && !source_is_down_with_it && !destination_is_down_with_it) {
        violated("none runs and no state says why");
    }
}

/// All but what is gone for good.
void Run::repair() {
    if (is_violated()) {
        return;
    }
    world_.note("world", "ALL IS REPAIRED that will be");
    world_.is_calm = true;
    source_.offer_no_more();
    const Schedule& plan = world_.schedule;
    arbiter_is_gone_ = plan.arbiter_is_gone;
    if (arbiter_is_gone_) {
        arbiter_.close_for_good();
    } else {
        arbiter_.repair();
    }
    link_is_gone_ = plan.link_stays_down;
    if (link_is_gone_) {
        wire_.close_for_good();
    } else {
        wire_.repair();
    }
    source_is_gone_ = !source_.is_up() && plan.source_is_gone;
    destination_is_gone_ = !destination_.is_up() && plan.destination_is_gone;
    if (!source_is_gone_) {
        source_.restart();
    }
    if (!destination_is_gone_) {
        destination_.restart();
    }
}

/// Where both sides live and reach each other (and the arbiter), all of it ends by itself.
void Run::check_nobody_needs_to_be_asked() {
    if (is_violated() || source_is_gone_ || destination_is_gone_ || link_is_gone_ ||
        arbiter_is_gone_) {
        return;
    }
    if (is_source({"in-doubt", "serving"}) || is_destination({"in-doubt", "faulting"})) {
        violated("healed and still in doubt");
    }
    if (!world_.schedule.is_hybrid && world_.witness.running() != 1) {
        violated("healed and it does not run");
    }
}

void Run::a_person_helps() {
    for (int i = 0; i < most_words_of_a_person && !is_violated() && a_person_acts(); ++i) {
        until_at_rest();
    }
}

bool Run::a_person_acts() {
    return person_on_salvage() || person_on_doubt() || person_boots_elsewhere();
}

bool Run::person_on_salvage() {
    // Where only the VM's name is left at the source; one that has its memory refuses.
    if (is_source({"split", "in-doubt"}) && is_destination({"split", "salvaged", "done"}) &&
        resolve(source_, Keep::destination)) {
        return true;
    }
    if (is_source({"split"}) && destination_is_gone_ &&
        resolve(source_, Keep::source, Assurance::destination_is_dead)) {
        return true;
    }
    if (is_destination({"faulting", "split", "lost"}) && destination_.salvage()) {
        return true;
    }
    // A destination that has all pages needs none from here, and cannot say so.
    const bool destination_is_out =
        destination_is_gone_ || is_destination({"salvaged"}) ||
        (link_is_gone_ && world_.schedule.is_hybrid && is_destination({"done"}));
    return destination_is_out && is_source({"serving", "split", "in-doubt"}) && source_.salvage();
}

bool Run::person_on_doubt() {
    const bool source_doubts = is_source({"in-doubt"});
    const bool destination_doubts = is_destination({"in-doubt"});
    const bool is_current = world_.witness.is_current(destination_.memory());
    if (destination_doubts && destination_has_run()) {
        // It asks whether it is the owner still. Nobody has kept the source, unless it runs.
        return resolve(
            destination_, world_.witness.runs(Where::source) ? Keep::source : Keep::destination);
    }
    if (source_doubts && is_destination({"done"})) {
        return resolve(source_, Keep::destination);
    }
    // Without an arbiter's word a source that has not heard of the commit writes no half.
    const bool is_half_salvaged = arbiter_is_gone_ && is_destination({"salvaged"});
    if (source_doubts && (destination_is_gone_ || is_half_salvaged)) {
        source_.let_old_memory_run();
        return resolve(source_, Keep::source, Assurance::destination_is_dead);
    }
    if (destination_doubts && source_is_gone_ && is_current &&
        resolve(destination_, Keep::destination)) {
        return true;
    }
    if (destination_doubts && (world_.witness.runs(Where::source) || source_is_gone_)) {
        return resolve(destination_, Keep::source);
    }
    if (!link_is_gone_ && !arbiter_is_gone_) {
        return false;
    }
    // They cannot hear each other, or the arbiter: he keeps either, and tells the other one first.
    // With pages missing there it never ran, and cannot be kept.
    if (source_doubts && destination_doubts) {
        if (!world_.schedule.is_hybrid && world_.random.one_in(2) &&
            resolve(source_, Keep::destination)) {
            return true;
        }
        return resolve(destination_, Keep::source);
    }
    if (destination_doubts && is_source({"handed-off"})) {
        return resolve(destination_, Keep::destination);
    }
    return source_doubts && is_destination({"idle", "abandoned"}) && resolve(source_, Keep::source);
}

/// Where the arbiter is gone a person says so; a side that has not met that yet asks it first.
bool Run::resolve(Process& side, Keep keep, Assurance with_arbiter) {
    return (arbiter_is_gone_ && side.resolve(keep, Assurance::arbiter_is_gone)) ||
           side.resolve(keep, with_arbiter);
}

bool Run::destination_has_run() const {
    const auto& taken = destination_.disk();
    return taken && (taken->kind == RecordKind::running || taken->kind == RecordKind::done);
}

bool Run::person_boots_elsewhere() {
    if (world_.witness.runs_elsewhere()) {
        return false;
    }
    const bool source_is_out = source_is_gone_ || is_source({"salvaged", "handed-off"});
    const bool destination_is_out = destination_is_gone_ || is_destination({"salvaged"});
    const bool is_salvaged = is_source({"salvaged"}) || is_destination({"salvaged"});
    const bool nothing_is_there = destination_is_gone_ || is_destination({"idle", "abandoned"});
    const bool died_with_its_host = (source_is_gone_ && nothing_is_there) ||
                                    (destination_is_gone_ && is_source({"handed-off"}));
    if ((source_is_out && destination_is_out && is_salvaged) || died_with_its_host) {
        world_.note("world", "the VM is booted or restored elsewhere");
        world_.witness.starts_elsewhere();
        return true;
    }
    return false;
}

void Run::check_end() {
    if (is_violated()) {
        return;
    }
    if (world_.witness.running() != 1 || is_source({"in-doubt", "serving"}) ||
        is_destination({"in-doubt", "faulting"})) {
        violated("no action leads to one that runs");
    }
}

std::string Run::end() const {
    if (is_violated()) {
        return "VIOLATED";
    }
    if (world_.witness.runs_elsewhere()) {
        return "runs elsewhere";
    }
    return world_.witness.runs(Where::source) ? "runs on the source" : "runs on the destination";
}

} // namespace

Outcome run(const Schedule& schedule, const World::Tell& tell) {
    Run run{schedule, tell};
    return run.play();
}

/// One fault after the other is left out for good where the same is violated without it.
Schedule shrink(const Schedule& schedule, const Violation& violation) {
    Schedule smallest = schedule;
    const auto still_violates = [&](const Schedule& candidate) {
        const Outcome outcome = run(candidate);
        return outcome.violation && outcome.violation->property == violation.property;
    };
    for (bool is_smaller = true; is_smaller;) {
        is_smaller = false;
        for (std::size_t i = smallest.faults.size(); i-- > 0;) {
            Schedule candidate = smallest;
            candidate.faults.erase(candidate.faults.begin() + static_cast<std::ptrdiff_t>(i));
            if (still_violates(candidate)) {
                smallest = std::move(candidate);
                is_smaller = true;
            }
        }
    }
    return smallest;
}

} // namespace wherry::sim
