// SPDX-License-Identifier: Apache-2.0
// One migration, again and again, with one thing going wrong at each of its steps in turn. Whatever
// it is: the guest runs on one side at most, nobody calls it his own twice, the source that keeps
// it runs it untracked, the destination that has it has all of it, and a second attempt succeeds.
#include "each_step.hpp"

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using formats::ErrorCode;
using migrate::DestinationState;
using migrate::SourceState;

namespace {

void check_that_both_kinds_of_failure_were_met(const Tally& tally) {
    MESSAGE(
        tally.steps,
        " steps: ",
        tally.reclaimed,
        " reclaimed, ",
        tally.source_in_doubt,
        " in doubt on the source, ",
        tally.destination_in_doubt,
        " on the destination, ",
        tally.handed_off,
        " arrived");
    CHECK(tally.steps > 20);
    CHECK(tally.reclaimed > 10);
    CHECK(tally.source_in_doubt > 0);
    CHECK(tally.handed_off > 0);
}

/// Before all pages are there the VM stays; what befalls a bulk channel afterwards is nothing.
void check_that_nobody_doubted(const Tally& tally) {
    MESSAGE(tally.steps, " steps: ", tally.reclaimed, " reclaimed, ", tally.handed_off, " arrived");
    CHECK(tally.steps > 15);
    CHECK(tally.reclaimed > 10);
    CHECK(tally.source_in_doubt == 0);
    CHECK(tally.destination_in_doubt == 0);
    CHECK(tally.handed_off > 0);
}

} // namespace

TEST_SUITE("migrate.each_step_fails") {
    TEST_CASE("F03 F08 the connection is cut at each step of the source") {
        const auto tally = fail_at_each_step(
            Where::source,
            [](Attempt&, Script& script) { script.fault = Fault::cut; },
            nothing_more);
        check_that_both_kinds_of_failure_were_met(tally);
    }

    TEST_CASE("F03 F08 the connection is cut at each step of the destination") {
        const auto tally = fail_at_each_step(
            Where::destination,
            [](Attempt&, Script& script) { script.fault = Fault::cut; },
            nothing_more);
        check_that_both_kinds_of_failure_were_met(tally);
        CHECK(tally.destination_in_doubt > 0);
    }

    TEST_CASE("a bit flips at each step of the source") {
        const auto tally = fail_at_each_step(
            Where::source,
            [](Attempt&, Script& script) { script.fault = Fault::corrupt; },
            [](const Attempt& attempt) {
                // Damage is found, not lived with: after it nobody says that all is well.
                if (attempt.source_script->fired && attempt.sent->error) {
                    CHECK(attempt.sent->error->code() != ErrorCode::internal);
                }
            });
        check_that_both_kinds_of_failure_were_met(tally);
    }

    TEST_CASE("a bit flips at each step of the destination") {
        const auto tally = fail_at_each_step(
            Where::destination,
            [](Attempt&, Script& script) { script.fault = Fault::corrupt; },
            nothing_more);
        check_that_both_kinds_of_failure_were_met(tally);
    }

    TEST_CASE("X03 the source falls silent at each step") {
        const auto tally = fail_at_each_step(
            Where::source,
            [](Attempt& attempt, Script& script) {
                script.fault = Fault::stall;
                attempt.source.policy.silence = 150ms;
                attempt.destination.policy.silence = 150ms;
            },
            nothing_more);
        check_that_both_kinds_of_failure_were_met(tally);
    }

    TEST_CASE("X03 the destination falls silent at each step") {
        const auto tally = fail_at_each_step(
            Where::destination,
            [](Attempt& attempt, Script& script) {
                script.fault = Fault::stall;
                attempt.source.policy.silence = 150ms;
                attempt.destination.policy.silence = 150ms;
            },
            nothing_more);
        check_that_both_kinds_of_failure_were_met(tally);
    }

    TEST_CASE("X01 the source's user cancels at each step, and the answer is the truth") {
        std::optional<migrate::CancelAnswer> answer;
        const auto tally = fail_at_each_step(
            Where::source,
            [&](Attempt& attempt, Script& script) {
                answer.reset();
                script.fault = Fault::call;
                script.action = [&] {
                    answer = attempt.source_gate.request_cancel();
                };
            },
            [&](const Attempt& attempt) {
                if (answer == migrate::CancelAnswer::will_cancel) {
                    CHECK(attempt.sent->state == SourceState::reclaimed);
                    CHECK(attempt.sent->error->code() == ErrorCode::cancelled);
                    CHECK(attempt.received->state == DestinationState::abandoned);
                } else {
                    CHECK(attempt.sent->state == SourceState::handed_off);
                    CHECK(attempt.received->state == DestinationState::done);
                }
            });
        CHECK(tally.source_in_doubt == 0);
        CHECK(tally.destination_in_doubt == 0);
        CHECK(tally.reclaimed > 10);
        CHECK(tally.handed_off > 1); // too late at least once
    }

    TEST_CASE("X01 the destination's user cancels at each step, and the answer is the truth") {
        std::optional<migrate::CancelAnswer> answer;
        const auto tally = fail_at_each_step(
            Where::destination,
            [&](Attempt& attempt, Script& script) {
                answer.reset();
                script.fault = Fault::call;
                script.action = [&] {
                    answer = attempt.destination_gate.request_cancel();
                };
            },
            [&](const Attempt& attempt) {
                if (answer == migrate::CancelAnswer::will_cancel) {
                    CHECK(attempt.received->state == DestinationState::abandoned);
                    CHECK(attempt.received->error->code() == ErrorCode::cancelled);
                    CHECK(attempt.sent->state == SourceState::reclaimed);
                } else {
                    CHECK(attempt.received->state == DestinationState::done);
                }
            });
        CHECK(tally.source_in_doubt == 0);
        CHECK(tally.reclaimed > 10);
        CHECK(tally.handed_off > 1);
    }

    TEST_CASE("F03 F08 a bulk channel is cut at each step of either side") {
        for (const Where where : {Where::source_bulk, Where::destination_bulk}) {
            CAPTURE(static_cast<int>(where));
            check_that_nobody_doubted(fail_at_each_step(
                where, [](Attempt&, Script& script) { script.fault = Fault::cut; }, nothing_more));
        }
    }

    TEST_CASE("a bit flips at each step of a bulk channel") {
        for (const Where where : {Where::source_bulk, Where::destination_bulk}) {
            CAPTURE(static_cast<int>(where));
            check_that_nobody_doubted(fail_at_each_step(
                where,
                [](Attempt&, Script& script) { script.fault = Fault::corrupt; },
                nothing_more));
        }
    }

    TEST_CASE("X03 a bulk channel falls silent at each step of either side") {
        for (const Where where : {Where::source_bulk, Where::destination_bulk}) {
            CAPTURE(static_cast<int>(where));
            check_that_nobody_doubted(fail_at_each_step(
                where,
                [](Attempt& attempt, Script& script) {
                    script.fault = Fault::stall;
                    attempt.source.policy.silence = 150ms;
                    attempt.destination.policy.silence = 150ms;
                },
                nothing_more));
        }
    }

    TEST_CASE("X01 either user cancels at each step of a bulk channel") {
        for (const Where where : {Where::source_bulk, Where::destination_bulk}) {
            CAPTURE(static_cast<int>(where));
            const bool at_source = where == Where::source_bulk;
            const auto tally = fail_at_each_step(
                where,
                [&](Attempt& attempt, Script& script) {
                    script.fault = Fault::call;
                    script.action = [&attempt, at_source] {
                        (at_source ? attempt.source_gate : attempt.destination_gate)
                            .request_cancel();
                    };
                },
                [&](const Attempt& attempt) {
                    const auto& here = at_source ? attempt.sent->error : attempt.received->error;
                    CHECK((!here || here->code() == ErrorCode::cancelled));
                });
            check_that_nobody_doubted(tally);
        }
    }
}
