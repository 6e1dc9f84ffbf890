// SPDX-License-Identifier: Apache-2.0
// Whole migrations within one process that a shared arbiter decides, or does not, for it is away.
#include "harness.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using formats::ErrorCode;
using formats::Phase;
using migrate::ArbiterRecord;
using migrate::Custody;
using migrate::DestinationState;
using migrate::Epoch;
using migrate::RecordKind;
using migrate::SourceState;

namespace {

struct Shared {
    explicit Shared(std::optional<ArbiterRecord> record = std::nullopt) : arbiter{record} {
        attempt.source.arbiter = "file:/arbiter";
        attempt.source_keeper.arbiter = &arbiter;
        attempt.destination_keeper.arbiter = &arbiter;
    }
    boost::asio::io_context io;
    RunWitness witness;
    MemoryArbiter arbiter;
    Attempt attempt{io};
};

bool says(const formats::Error& error, std::string_view what) {
    return error.text().find(what) != std::string::npos;
}

} // namespace

TEST_SUITE("migrate.shared_arbiter") {
    TEST_CASE("the arbiter gives the VM to the destination") {
        Shared test;
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(test.attempt.received->state == DestinationState::done);
        CHECK(test.arbiter.record() == ArbiterRecord{RecordKind::committed, Epoch{8}});
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("a source whose arbiter is away calls nobody") {
        Shared test;
        test.attempt.source_keeper.answers_left = 0;
        const auto machine = running_machine(test.witness);
        bool was_called = false;
        test.attempt.start_source(
            *machine,
            [&was_called](auto, auto) -> transport::Task<std::unique_ptr<transport::ByteStream>> {
                was_called = true;
                co_return formats::fail(ErrorCode::unreachable, "nobody listens there");
            });
        test.attempt.run_until_done();
        CHECK_FALSE(was_called);
        const auto& sent = *test.attempt.sent;
        CHECK(sent.custody == Custody::source);
        CHECK(sent.error->code() == ErrorCode::unreachable);
        CHECK(sent.error->phase() == Phase::connect);
        CHECK(says(*sent.error, "asking the arbiter: no arbiter file:/arbiter is here"));
        CHECK(test.attempt.source_keeper.records().empty());
        CHECK(test.witness.running() == 1);
        CHECK_FALSE(machine->is_tracked());
    }

    TEST_CASE("a VM that has changed hands since, as the arbiter knows, is not offered") {
        Shared test{ArbiterRecord{RecordKind::committed, Epoch{8}}}; // it is at 7 here
        const auto machine = running_machine(test.witness);
        test.attempt.start_source(*machine, test.attempt.connector());
        test.attempt.run_until_done();
        CHECK(test.attempt.sent->error->code() == ErrorCode::wrong_state);
        CHECK(says(*test.attempt.sent->error, "COMMITTED(8)"));
        CHECK(test.attempt.sent->custody == Custody::source);
        CHECK(test.witness.running() == 1);
    }

    TEST_CASE("a destination that does not reach the arbiter refuses before any page has moved") {
        Shared test;
        test.attempt.destination_keeper.answers_left = 0;
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        const auto& error = *test.attempt.sent->error;
        CHECK(error.code() == ErrorCode::unreachable);
        CHECK(says(error, "the destination refused: asking the arbiter: no arbiter file:/arbiter"));
        CHECK(test.attempt.sent->report.rounds.empty());
        CHECK(test.attempt.source_keeper.records().empty());
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        CHECK(test.witness.running() == 1);
    }

    TEST_CASE("an arbiter that goes away before the offer leaves the guest running here") {
        Shared test;
        test.attempt.source_keeper.answers_left = 1; // it was there when the migration began
        SUBCASE("pre-copy") {}
        SUBCASE("hybrid") {
            if (!can_miss_pages("an arbiter that goes away before the offer")) {
                return;
            }
            test.attempt.go_hybrid();
        }
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        const auto& sent = *test.attempt.sent;
        CHECK(sent.state == SourceState::reclaimed);
        CHECK(sent.epoch == Epoch{9});
        CHECK(says(*sent.error, "arbiter file:/arbiter cannot be reached"));
        CHECK(
            test.attempt.source_keeper.kinds() ==
            std::vector{RecordKind::offered, RecordKind::reclaimed});
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        CHECK(test.witness.running() == 1);

        // And the next attempt, of a later epoch, is as good as the first.
        Shared again{ArbiterRecord{RecordKind::offered, Epoch{8}}}; // carried out after all
        again.attempt.source.epoch = sent.epoch;
        again.attempt.run(*machine, test.witness);
        CHECK(again.attempt.sent->state == SourceState::handed_off);
        CHECK(again.arbiter.record() == ArbiterRecord{RecordKind::committed, Epoch{10}});
    }

    TEST_CASE("a destination whose arbiter goes away after the offer loses the VM to the source") {
        Shared test;
        test.attempt.destination_keeper.answers_left = 1;
        test.attempt.source.policy.handover_deadline = 200ms;
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::reclaimed);
        CHECK(test.attempt.received->state == DestinationState::abandoned);
        CHECK(test.arbiter.record() == ArbiterRecord{RecordKind::reclaimed, Epoch{9}});
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        CHECK(test.witness.running() == 1);
    }
}
