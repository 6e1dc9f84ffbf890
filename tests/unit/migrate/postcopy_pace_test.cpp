// SPDX-License-Identifier: Apache-2.0
// How fast the pages that a guest went without follow it, and in which order.
#include "formats/page_run.hpp"
#include "harness.hpp"

#include <algorithm>
#include <utility>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using formats::Bytes;
using formats::PageCount;
using migrate::DestinationState;
using migrate::SourceState;

namespace {

constexpr Bytes mib{std::uint64_t{1} << 20U};
constexpr Bytes rate = mib * 6;

bool serves(const migrate::ProgressSnapshot& now) {
    return now.ownership_state == "serving";
}

/// A guest that leaves nearly all of its 3,800 pages behind.
TestMachineOptions busy_guest() {
    TestMachineOptions options;
    options.memory = mib * 16;
    options.writes_per_fetch = 12'000;
    options.hot_pages = 3'800;
    options.calming = 0;
    return options;
}

/// What had been pushed at any moment is at most what the rate allowed until then, and what may be
/// under way beyond it: a bucket of a tenth of a second, and one batch.
void check_pace(const Attempt& attempt) {
    const auto& told = attempt.source_observer.snapshots;
    const auto first = std::ranges::find_if(told, serves);
    REQUIRE(first != told.end());
    const std::uint64_t allowed_at_once =
        rate.value() / 10 + formats::page_batch_limit.value() + (64U << 10U);
    for (auto now = first; now != told.end(); ++now) {
        const auto pushed = (now->wire_bytes - first->wire_bytes).value();
        const auto seconds = std::chrono::duration<double>(now->elapsed - first->elapsed).count();
        CHECK(
            static_cast<double>(pushed) <=
            static_cast<double>(rate.value()) * seconds + static_cast<double>(allowed_at_once));
    }
    const auto all = told.back().wire_bytes - first->wire_bytes;
    CHECK(all > mib * 6); // or there was nothing to hold back
}

} // namespace

TEST_SUITE("migrate.postcopy_pace") {
    TEST_CASE("P05 the bandwidth of post-copy holds, and so it does after a recovery") {
        if (!can_miss_pages("migrate.postcopy_pace")) {
            return;
        }
        for (const bool is_lost : {false, true}) {
            CAPTURE(is_lost);
            boost::asio::io_context io;
            RunWitness witness;
            Attempt attempt{io};
            attempt.go_hybrid();
            attempt.source.policy.postcopy_bandwidth = migrate::BytesPerSecond{rate.value()};
            attempt.source.policy.recover_timeout.reset();
            attempt.destination.policy.recover_timeout.reset();
            bool is_cut = !is_lost;
            attempt.source_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
                if (serves(now) && !std::exchange(is_cut, true)) {
                    for (const auto& script :
                         {attempt.source_script,
                          attempt.source_bulk_script,
                          attempt.source_urgent_script}) {
                        script->cut();
                    }
                }
            };
            const auto machine = running_machine(witness, busy_guest(), 3'800);
            attempt.run(*machine, witness);
            CHECK(attempt.sent->state == SourceState::handed_off);
            CHECK(attempt.received->state == DestinationState::done);
            CHECK(rule_broken(attempt, *machine, witness) == "");
            CHECK(attempt.sent->report.notes.empty() == !is_lost); // the connection was made again
            check_pace(attempt);
        }
    }

    TEST_CASE("P07 pages that are waited for overtake those that are pushed, however many stand") {
        if (!can_miss_pages("migrate.postcopy_pace")) {
            return;
        }
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        attempt.go_hybrid();
        attempt.source.policy.streams = 1;
        // Nobody is to take the bulk channel for dead that stands still on purpose.
        attempt.source.policy.silence = attempt.destination.policy.silence = 60s;
        attempt.destination_machine.hot_pages = 4'096; // all there are
        attempt.destination_machine.has_writer_thread = true;
        // From the moment at which pages follow the guest nothing of bulk gets through any more.
        attempt.destination_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
            if (now.ownership_state == "accepted") {
                attempt.destination_bulk_script->fault = Fault::stall;
                attempt.destination_bulk_script->at = attempt.destination_bulk_script->steps;
            }
        };
        const auto machine = running_machine(witness, busy_guest(), 3'800);
        attempt.run(*machine, witness);
        CHECK(attempt.destination_bulk_script->fired);
        CHECK(attempt.sent->state == SourceState::handed_off);
        CHECK(attempt.received->state == DestinationState::done);
        CHECK(rule_broken(attempt, *machine, witness) == "");
        // Over the first connections, so that every missing page came by being asked for, with all
        // of them queued on the bulk channel before.
        CHECK(attempt.sent->report.notes.empty());
        const auto& told = attempt.destination_observer.snapshots;
        const auto most = std::ranges::max_element(
            told, {}, [](const migrate::ProgressSnapshot& now) { return now.missing; });
        CHECK(most->missing > PageCount{2'000});
        REQUIRE(attempt.received->report.faults);
        CHECK(attempt.received->report.faults->count >= most->missing.value());
    }
}
