// SPDX-License-Identifier: Apache-2.0
#include "migrate/handover.hpp"

#include "tests/support/test_machine.hpp"

#include <concepts>
#include <type_traits>
#include <utility>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::ErrorCode;
using tests::RunWitness;
using tests::TestMachine;

namespace {

template <typename Guest>
concept can_be_taken_back = requires(Guest guest) { std::move(guest).take_back(); };
template <typename Guest>
concept can_be_resumed = requires(Guest guest) { guest.resume(); };

} // namespace

// After the commit there is nothing to call: the rule does not depend on anyone's care.
static_assert(can_be_taken_back<PausedGuest>);
static_assert(!can_be_taken_back<GivenUpGuest> && !can_be_resumed<GivenUpGuest>);
static_assert(!std::copy_constructible<PausedGuest>);
static_assert(!std::is_assignable_v<PausedGuest&, PausedGuest>);

TEST_SUITE("migrate.handover") {
    TEST_CASE("a guest that ran goes on when it is taken back, and when it is dropped") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        REQUIRE(machine.resume());
        {
            auto paused = PausedGuest::pause(machine);
            REQUIRE(paused);
            CHECK(witness.running() == 0);
            CHECK(std::move(*paused).take_back());
            CHECK(witness.running() == 1);
        }
        {
            auto paused = PausedGuest::pause(machine);
            REQUIRE(paused);
            CHECK(witness.running() == 0);
        }
        CHECK(witness.running() == 1);
    }

    TEST_CASE("a guest that was paused by its owner stays paused") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        auto paused = PausedGuest::pause(machine);
        REQUIRE(paused);
        CHECK(std::move(*paused).take_back());
        CHECK(witness.running() == 0);
    }

    TEST_CASE("a guest that was given up does not go on when everything is dropped") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        REQUIRE(machine.resume());
        {
            auto paused = PausedGuest::pause(machine);
            REQUIRE(paused);
            [[maybe_unused]] const GivenUpGuest gone = std::move(*paused).commit(Epoch{8});
        }
        CHECK(witness.running() == 0);
    }

    TEST_CASE("a guest that cannot be stopped goes on") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        REQUIRE(machine.resume());
        machine.fail_next(TestMachine::Operation::pause);
        CHECK_FALSE(PausedGuest::pause(machine));
        CHECK(witness.running() == 1);
    }

    TEST_CASE("a person's decision starts the guest on the side it names only") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        InDoubtGuest here{machine, Keep::source, Epoch{8}};
        CHECK(here.resolve(Keep::destination) == Custody::destination);
        CHECK(witness.running() == 0);
        CHECK(here.resolve(Keep::source) == Custody::source);
        CHECK(witness.running() == 1);
    }

    TEST_CASE("a decision that cannot be carried out leaves the guest in doubt") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        InDoubtGuest here{machine, Keep::source, Epoch{8}};
        machine.fail_next(TestMachine::Operation::resume);
        CHECK_FALSE(here.resolve(Keep::source));
        CHECK(here.resolve(Keep::source) == Custody::source);
    }

    TEST_CASE("both halves go through a hand-over in step") {
        RunWitness witness;
        TestMachine machine{{}, witness};
        auto paused = PausedGuest::pause(machine);
        REQUIRE(paused);
        SourceHandover source{Epoch{7}};
        DestinationHandover destination{Epoch{7}};
        CHECK(destination.on_offer(source.offer()));
        CHECK(source.custody() == Custody::source);
        CHECK(destination.custody() == Custody::source);
        const Epoch accepted = destination.accept();
        CHECK(accepted == Epoch{8});
        CHECK(destination.custody() == Custody::undetermined);
        CHECK(source.on_accept(accepted));
        CHECK(source.custody() == Custody::source);
        CHECK_FALSE(destination.may_run());
        [[maybe_unused]] const GivenUpGuest gone = source.commit(std::move(*paused));
        CHECK(source.custody() == Custody::undetermined);
        CHECK(destination.on_commit(Epoch{8}));
        CHECK(destination.may_run());
        CHECK(destination.custody() == Custody::destination);
        CHECK(source.on_running(Epoch{8}));
        CHECK(source.custody() == Custody::destination);
    }

    TEST_CASE("a guest that was offered and stays is two epochs on") {
        SourceHandover source{Epoch{7}};
        CHECK(source.epoch_if_kept() == Epoch{7});
        CHECK(source.offer() == Epoch{8});
        CHECK(source.epoch_if_kept() == Epoch{9});
    }

    TEST_CASE("messages out of their turn change nothing") {
        SourceHandover source{Epoch{7}};
        CHECK(source.on_accept(Epoch{8}).error().code() == ErrorCode::protocol);
        CHECK(source.on_running(Epoch{8}).error().code() == ErrorCode::protocol);
        CHECK(source.custody() == Custody::source);
        DestinationHandover destination{Epoch{7}};
        CHECK(destination.on_commit(Epoch{8}).error().code() == ErrorCode::protocol);
        CHECK(destination.on_offer(Epoch{8}));
        CHECK(destination.on_offer(Epoch{8}).error().code() == ErrorCode::protocol);
        CHECK(destination.on_commit(Epoch{8}).error().code() == ErrorCode::protocol);
        CHECK_FALSE(destination.may_run());
    }

    TEST_CASE("messages of another epoch change nothing") {
        SourceHandover source{Epoch{7}};
        (void)source.offer();
        CHECK(source.on_accept(Epoch{9}).error().code() == ErrorCode::protocol);
        CHECK(source.custody() == Custody::source);
        DestinationHandover destination{Epoch{7}};
        CHECK(destination.on_offer(Epoch{7}).error().code() == ErrorCode::protocol);
        CHECK(destination.on_offer(Epoch{8}));
        (void)destination.accept();
        CHECK(destination.on_commit(Epoch{7}).error().code() == ErrorCode::protocol);
        CHECK_FALSE(destination.may_run());
        CHECK(destination.custody() == Custody::undetermined);
    }
}
