// SPDX-License-Identifier: Apache-2.0
// As each_step_fails_test.cpp, for a guest that goes on while its pages follow it. Connections that
// are lost are made again for as long as it takes, so that the two sides never leave anybody in
// doubt: either the guest stays as if nothing had been, or it arrives with every page right.
#include "each_step.hpp"

#include <utility>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using migrate::DestinationState;
using migrate::SourceState;

namespace {

constexpr std::uint64_t filled = 200;

/// Dirties most of what it has while the first pass is on its way, and at the destination uses it
/// from a thread that waits for what is missing.
TestMachineOptions busy_guest() {
    TestMachineOptions options;
    options.writes_per_fetch = 400;
    options.hot_pages = filled;
    options.calming = 0;
    return options;
}

/// Pages follow the guest, and a lost connection is made again.
void go_hybrid(Attempt& attempt) {
    attempt.go_hybrid();
    attempt.source.policy.recover_timeout.reset();
    // A source that has ended before it could say so is waited for as long as that. Longer by far
    // than a connection takes to be made again.
    attempt.destination.policy.recover_timeout = 4s;
    // A stream that its own side closes looks to that side like an end that it wanted: its peer
    // waits for the channels that are to come.
    attempt.destination.policy.plan_deadline = 2s;
    attempt.destination_machine.hot_pages = filled;
    attempt.destination_machine.has_writer_thread = true;
}

void be_impatient(Attempt& attempt) {
    attempt.source.policy.silence = 150ms;
    attempt.destination.policy.silence = 150ms;
}

Tally fail_at_each_step_of_hybrid(
    Where where, const Prepare& prepare, const Check& also = nothing_more) {
    const Prepare whole = [&](Attempt& attempt, Script& script) {
        go_hybrid(attempt);
        prepare(attempt, script);
    };
    return fail_at_each_step(where, whole, also, busy_guest(), filled);
}

void check_that_nobody_doubted(const Tally& tally, std::uint64_t fewest_steps) {
    MESSAGE(tally.steps, " steps: ", tally.reclaimed, " reclaimed, ", tally.handed_off, " arrived");
    CHECK(tally.steps >= fewest_steps);
    CHECK(tally.handed_off > 0);
    CHECK(tally.source_in_doubt == 0);
    CHECK(tally.destination_in_doubt == 0);
    CHECK(static_cast<std::uint64_t>(tally.reclaimed + tally.handed_off) == tally.steps + 1);
}

constexpr Where everywhere[]{
    Where::source,
    Where::destination,
    Where::source_bulk,
    Where::destination_bulk,
    Where::source_urgent,
    Where::destination_urgent};

void check_with(Fault fault) {
    if (!can_miss_pages("migrate.hybrid_each_step_fails")) {
        return;
    }
    for (const Where where : everywhere) {
        CAPTURE(static_cast<int>(where));
        const auto tally =
            fail_at_each_step_of_hybrid(where, [&](Attempt& attempt, Script& script) {
                script.fault = fault;
                if (fault == Fault::stall) {
                    be_impatient(attempt);
                }
            });
        check_that_nobody_doubted(tally, 4);
    }
}

/// Everything is cut when the source begins to serve, with all pages still missing; then something
/// else goes wrong at each step from there on.
void check_after_a_loss_with(Fault fault) {
    if (!can_miss_pages("migrate.hybrid_each_step_fails")) {
        return;
    }
    for (const Where where : everywhere) {
        CAPTURE(static_cast<int>(where));
        int losses = 0, attempts = 0;
        const auto tally = fail_at_each_step_of_hybrid(
            where,
            [&](Attempt& attempt, Script& script) {
                script.fault = fault;
                be_impatient(attempt); // a side that cuts its own stream does not hear of it
                const std::uint64_t step = std::exchange(script.at, Script{}.at);
                attempt.source_observer.on_progress = [&,
                                                       step](const migrate::ProgressSnapshot& now) {
                    if (now.ownership_state != "serving" || script.at != Script{}.at) {
                        return;
                    }
                    ++losses;
                    script.at = script.steps + step;
                    for (const Where each : everywhere) {
                        script_of(attempt, each)->cut();
                    }
                };
                ++attempts;
            },
            [](const Attempt& attempt) {
                CHECK(attempt.sent->state == SourceState::handed_off);
                CHECK(attempt.received->state == DestinationState::done);
                CHECK(attempt.source_observer.snapshots.back().missing == formats::PageCount{0});
            });
        check_that_nobody_doubted(tally, 4);
        CHECK(losses == attempts);
    }
}

} // namespace

TEST_SUITE("migrate.hybrid_each_step_fails") {
    TEST_CASE("X03 a channel of a hybrid migration is cut at each of its steps") {
        check_with(Fault::cut);
    }
    TEST_CASE("X03 a bit flips at each step of each channel of a hybrid migration") {
        check_with(Fault::corrupt);
    }
    TEST_CASE("X03 a channel of a hybrid migration falls silent at each of its steps") {
        check_with(Fault::stall);
    }

    TEST_CASE("X03 a channel is cut at each step of the recovery, and after it") {
        check_after_a_loss_with(Fault::cut);
    }
    TEST_CASE("X03 a bit flips at each step of the recovery, and after it") {
        check_after_a_loss_with(Fault::corrupt);
    }
    TEST_CASE("X03 a channel falls silent at each step of the recovery, and after it") {
        check_after_a_loss_with(Fault::stall);
    }

    TEST_CASE("X01 either user cancels at each step of a hybrid migration") {
        if (!can_miss_pages("migrate.hybrid_each_step_fails")) {
            return;
        }
        for (const Where where : everywhere) {
            for (const bool at_source : {true, false}) {
                CAPTURE(static_cast<int>(where));
                CAPTURE(at_source);
                std::optional<migrate::CancelAnswer> answer;
                const auto tally = fail_at_each_step_of_hybrid(
                    where,
                    [&](Attempt& attempt, Script& script) {
                        answer.reset();
                        script.fault = Fault::call;
                        script.action = [&] {
                            auto& gate = at_source ? attempt.source_gate : attempt.destination_gate;
                            answer = gate.request_cancel();
                        };
                    },
                    [&](const Attempt& attempt) {
                        const bool is_cancelled = answer == migrate::CancelAnswer::will_cancel;
                        CHECK(
                            attempt.sent->state ==
                            (is_cancelled ? SourceState::reclaimed : SourceState::handed_off));
                        CHECK(
                            attempt.received->state ==
                            (is_cancelled ? DestinationState::abandoned : DestinationState::done));
                    });
                check_that_nobody_doubted(tally, 4);
            }
        }
    }
}
