// SPDX-License-Identifier: Apache-2.0
#include "migrate/phase.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include <doctest/doctest.h>

using namespace wherry::migrate;

namespace {

constexpr std::array source_states{
    SourceState::idle,
    SourceState::connect,
    SourceState::plan,
    SourceState::precopy,
    SourceState::drain,
    SourceState::offer,
    SourceState::committed,
    SourceState::handed_off,
    SourceState::reclaimed,
    SourceState::in_doubt,
};
constexpr std::array destination_states{
    DestinationState::idle,
    DestinationState::plan,
    DestinationState::filling,
    DestinationState::loaded,
    DestinationState::accepted,
    DestinationState::running,
    DestinationState::done,
    DestinationState::abandoned,
    DestinationState::in_doubt,
};

template <typename State>
std::string name(State state) {
    return std::string{name_of(state)};
}

/// "from>to" of every legal step.
template <typename State, std::size_t count>
std::set<std::string> steps(const std::array<State, count>& states) {
    std::set<std::string> legal;
    for (const State from : states) {
        for (const State to : states) {
            if (StateMachine<State>::is_legal(from, to)) {
                legal.insert(name(from) + ">" + name(to));
            }
        }
    }
    return legal;
}

/// Whether `to` can be reached from `from` at all.
template <typename State>
bool reaches(State from, State to) {
    return from == to ||
           std::ranges::any_of(successors(from), [&](State next) { return reaches(next, to); });
}

} // namespace

TEST_SUITE("migrate.phase") {
    TEST_CASE("the source's legal steps are exactly these") {
        CHECK(
            steps(source_states) == std::set<std::string>{
                                        "idle>connect",
                                        "connect>plan",
                                        "plan>precopy",
                                        "precopy>drain",
                                        "drain>offer",
                                        "offer>committed",
                                        "committed>handed-off",
                                        "committed>in-doubt",
                                        "idle>reclaimed",
                                        "connect>reclaimed",
                                        "plan>reclaimed",
                                        "precopy>reclaimed",
                                        "drain>reclaimed",
                                        "offer>reclaimed"});
    }

    TEST_CASE("the destination's legal steps are exactly these") {
        CHECK(
            steps(destination_states) == std::set<std::string>{
                                             "idle>plan",
                                             "plan>filling",
                                             "filling>loaded",
                                             "loaded>accepted",
                                             "accepted>running",
                                             "running>done",
                                             "accepted>in-doubt",
                                             "running>in-doubt",
                                             "accepted>abandoned",
                                             "idle>abandoned",
                                             "plan>abandoned",
                                             "filling>abandoned",
                                             "loaded>abandoned"});
    }

    TEST_CASE("a source that has committed never gets to a state in which the guest is its own") {
        for (const SourceState to : source_states) {
            if (custody_of(to) == Custody::source) {
                CHECK_FALSE(reaches(SourceState::committed, to));
            }
        }
    }

    TEST_CASE("a failure leads to an end by a legal step, and to the source before the commit") {
        for (const SourceState from : source_states) {
            const SourceState to = after_failure(from);
            CHECK(successors(to).empty());
            CHECK((to == from || SourceMachine::is_legal(from, to)));
            if (custody_of(from) == Custody::source) {
                CHECK(custody_of(to) == Custody::source);
            }
        }
    }

    TEST_CASE("a failure on the destination leads to an end that is never its own") {
        for (const DestinationState from : destination_states) {
            const DestinationState to = after_failure(from);
            CHECK(successors(to).empty());
            CHECK((to == from || DestinationMachine::is_legal(from, to)));
            if (from != DestinationState::done) {
                CHECK(custody_of(to) != Custody::destination);
            }
        }
    }

    TEST_CASE("a failure after the acceptance is never taken for the source's word") {
        CHECK(after_failure(DestinationState::accepted) == DestinationState::in_doubt);
        CHECK(after_failure(SourceState::committed) == SourceState::in_doubt);
    }

    TEST_CASE("of every pair of states that can meet at most one side has the guest") {
        // The source commits only after the acceptance; the destination is its own only after the
        // commit. So while the source has custody the destination is at most accepted.
        for (const DestinationState state : destination_states) {
            if (custody_of(state) == Custody::destination) {
                CHECK((state == DestinationState::running || state == DestinationState::done));
            }
        }
        for (const SourceState state : source_states) {
            if (custody_of(state) == Custody::destination) {
                CHECK(state == SourceState::handed_off);
            }
        }
    }

    TEST_CASE("a machine walks its path and knows its custody") {
        SourceMachine source;
        for (const SourceState next :
             {SourceState::connect,
              SourceState::plan,
              SourceState::precopy,
              SourceState::drain,
              SourceState::offer}) {
            source.enter(next);
            CHECK(source.custody() == Custody::source);
        }
        source.enter(SourceState::committed);
        CHECK(source.custody() == Custody::undetermined);
        source.enter(SourceState::handed_off);
        CHECK(source.custody() == Custody::destination);
    }
}
