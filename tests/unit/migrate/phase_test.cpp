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
    SourceState::serving,
    SourceState::split,
    SourceState::in_doubt,
    SourceState::handed_off,
    SourceState::reclaimed,
    SourceState::lost,
    SourceState::salvaged,
};
constexpr std::array destination_states{
    DestinationState::idle,
    DestinationState::plan,
    DestinationState::filling,
    DestinationState::loaded,
    DestinationState::accepted,
    DestinationState::running,
    DestinationState::faulting,
    DestinationState::split,
    DestinationState::in_doubt,
    DestinationState::done,
    DestinationState::abandoned,
    DestinationState::lost,
    DestinationState::salvaged,
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
                                        "idle>reclaimed",
                                        "connect>reclaimed",
                                        "plan>reclaimed",
                                        "precopy>reclaimed",
                                        "drain>reclaimed"});
    }

    TEST_CASE("the destination's legal steps are exactly these") {
        CHECK(
            steps(destination_states) == std::set<std::string>{
                                             "idle>plan",
                                             "plan>filling",
                                             "filling>loaded",
                                             "idle>abandoned",
                                             "plan>abandoned",
                                             "filling>abandoned",
                                             "loaded>abandoned"});
    }

    TEST_CASE("as long as the phases say what follows, the VM is the source's") {
        for (const SourceState from : source_states) {
            if (!successors(from).empty()) {
                CHECK(custody_of(from) == Custody::source);
                CHECK(SourceMachine::is_legal(from, SourceState::reclaimed));
            }
        }
        for (const DestinationState from : destination_states) {
            if (!successors(from).empty()) {
                CHECK(custody_of(from) == Custody::source);
                CHECK(reaches(from, DestinationState::abandoned));
            }
        }
    }

    TEST_CASE("what an owner has become is called as the owner calls it") {
        for (int i = 0; i <= static_cast<int>(SourceOwnerState::salvaged); ++i) {
            const auto owner = static_cast<SourceOwnerState>(i);
            if (const auto state = mirrored(owner)) {
                CHECK(name_of(*state) == name_of(owner));
            }
        }
        for (int i = 0; i <= static_cast<int>(DestinationOwnerState::salvaged); ++i) {
            const auto owner = static_cast<DestinationOwnerState>(i);
            const auto state = mirrored(owner);
            if (state && owner != DestinationOwnerState::starting) {
                CHECK(name_of(*state) == name_of(owner));
            }
        }
    }

    TEST_CASE("a machine walks its path and knows its custody") {
        SourceMachine source;
        for (const SourceState next :
             {SourceState::connect, SourceState::plan, SourceState::precopy, SourceState::drain}) {
            source.enter(next);
            CHECK(source.custody() == Custody::source);
        }
        source.follow(SourceState::committed);
        CHECK(source.custody() == Custody::undetermined);
        source.follow(SourceState::handed_off);
        CHECK(source.custody() == Custody::destination);
    }
}
