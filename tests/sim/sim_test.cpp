// SPDX-License-Identifier: Apache-2.0
// That the simulation can find what it is for: each broken rule, shrunk to few faults, and the
// same again from its seed.
#include "tests/sim/run.hpp"
#include "tests/sim/schedule.hpp"

#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::sim;

namespace {

constexpr std::uint64_t most_schedules = 20'000;

struct Found {
    Schedule schedule;
    Violation violation;
};

/// The first schedule of a weakened side that violates `property`.
std::optional<Found> find(Weakness weakness, std::string_view property) {
    for (std::uint64_t seed = 1; seed <= most_schedules; ++seed) {
        const Schedule schedule = make_schedule(seed, weakness);
        Outcome outcome = run(schedule);
        if (outcome.violation && outcome.violation->property == property) {
            return Found{schedule, *std::move(outcome.violation)};
        }
    }
    return std::nullopt;
}

std::vector<std::string> trace_of(const Schedule& schedule) {
    std::vector<std::string> lines;
    (void)run(schedule, [&lines](const std::string& line) { lines.push_back(line); });
    return lines;
}

struct Row {
    Weakness weakness;
    std::string_view property;
};
constexpr std::array rows{
    Row{Weakness::commit_before_its_record, "two run"},
    Row{Weakness::epoch_does_not_advance, "an old copy runs"},
    Row{Weakness::resumes_without_its_record, "an old copy runs"},
    Row{Weakness::runs_without_its_record, "forgotten by both"},
    Row{Weakness::starts_on_timeout, "two run"},
    Row{Weakness::resumes_after_commit, "two run"},
    Row{Weakness::forgets_on_timeout, "forgotten by both"},
    Row{Weakness::drops_memory_at_commit, "memory is gone"},
    Row{Weakness::gives_back_after_running, "none runs and no state says why"},
    Row{Weakness::resumes_without_arbiter, "two run"},
    Row{Weakness::believes_its_request, "two run"},
    Row{Weakness::old_page_overwrites, "an old page over a newer one"},
    Row{Weakness::forgets_after_last_page, "healed and still in doubt"},
};

} // namespace

TEST_SUITE("sim") {
    TEST_CASE("every broken rule is found, shrunk, and found again from its seed") {
        static_assert(rows.size() + 1 == weaknesses);
        for (const Row& row : rows) {
            CAPTURE(name_of(row.weakness));
            const auto found = find(row.weakness, row.property);
            REQUIRE(found);

            const Schedule small = shrink(found->schedule, found->violation);
            CHECK(small.faults.size() <= found->schedule.faults.size());
            CHECK(small.faults.size() <= 4);
            // What the printed command does.
            Schedule replayed = make_schedule(small.seed, row.weakness);
            std::vector<std::size_t> numbers;
            for (const Fault& fault : small.faults) {
                numbers.push_back(fault.number);
            }
            keep_only(replayed, numbers);
            const Outcome outcome = run(replayed);
            REQUIRE(outcome.violation);
            CHECK(outcome.violation->property == row.property);

            // It is the broken rule and not the schedule.
            replayed.weakness = Weakness::none;
            CHECK_FALSE(run(replayed).violation);
        }
    }

    TEST_CASE("no fault that is left in a shrunk schedule could be left out") {
        const auto found = find(Weakness::resumes_without_its_record, "an old copy runs");
        REQUIRE(found);
        const Schedule small = shrink(found->schedule, found->violation);
        REQUIRE(!small.faults.empty());
        for (const Fault& fault : small.faults) {
            Schedule smaller = small;
            std::erase_if(
                smaller.faults, [&](const Fault& other) { return other.number == fault.number; });
            const auto violation = run(smaller).violation;
            CHECK((!violation || violation->property != found->violation.property));
        }
    }

    TEST_CASE("one seed is one schedule") {
        std::set<std::vector<std::string>> different;
        for (std::uint64_t seed = 1; seed <= 50; ++seed) {
            const auto lines = trace_of(make_schedule(seed));
            CHECK(lines == trace_of(make_schedule(seed)));
            CHECK(!lines.empty());
            different.insert(lines);
        }
        CHECK(different.size() == 50);
    }

    TEST_CASE("the schedules meet every kind of fault, every end, and both arbiters") {
        Counts counts;
        std::set<std::string> ends;
        for (std::uint64_t seed = 1; seed <= 5000; ++seed) {
            const Outcome outcome = run(make_schedule(seed));
            CHECK_FALSE(outcome.violation);
            ends.insert(outcome.end);
            for (const auto& [name, number] : outcome.counts) {
                counts[name] += number;
            }
        }
        for (const std::string_view name :
             {"crashes",
              "cuts",
              "freezes",
              "stalls",
              "duplicates",
              "late messages",
              "disk faults",
              "arbiter cuts",
              "late requests",
              "cancels",
              "session failures",
              "failing starts",
              "booted again",
              "in doubt, source",
              "in doubt, destination",
              "resolves",
              "salvages"}) {
            CAPTURE(name);
            CHECK(counts.contains(name));
        }
        CHECK(
            ends == std::set<std::string>{
                        "runs on the source", "runs on the destination", "runs elsewhere"});
    }
}
