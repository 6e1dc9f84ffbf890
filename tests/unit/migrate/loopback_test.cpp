// SPDX-License-Identifier: Apache-2.0
// Whole migrations within one process, over a stream in memory.
#include "harness.hpp"

#include <algorithm>

#include <doctest/doctest.h>
#include <fmt/ranges.h>

using namespace wherry;
using namespace wherry::tests;
using formats::ErrorCode;
using formats::Phase;
using migrate::Custody;
using migrate::DestinationState;
using migrate::Duration;
using migrate::SourceState;

namespace {

constexpr formats::Bytes mib{std::uint64_t{1} << 20U};

struct Loopback {
    boost::asio::io_context io;
    RunWitness witness;
    Attempt attempt{io};
};

transport::Task<std::unique_ptr<transport::ByteStream>> no_connection() {
    co_return formats::fail(ErrorCode::unreachable, "nobody listens there");
}

} // namespace

TEST_SUITE("migrate.loopback") {
    TEST_CASE("a running guest arrives complete and runs on the destination only") {
        Loopback test;
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        const auto& sent = *test.attempt.sent;
        const auto& received = *test.attempt.received;
        CHECK_MESSAGE(!sent.error, (sent.error ? sent.error->text() : ""));
        CHECK(sent.state == SourceState::handed_off);
        CHECK(sent.custody == Custody::destination);
        CHECK(received.state == DestinationState::done);
        CHECK(received.custody == Custody::destination);
        CHECK(received.epoch == migrate::Epoch{8});
        CHECK(received.arrival.vm_name == "vm");
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        CHECK(test.attempt.arrived().check() == "");
        CHECK(machine->writes() > 200); // the guest wrote while it was moved
        CHECK(fmt::format("{}", fmt::join(sent.report.notes, "; ")) == "");
        CHECK(fmt::format("{}", fmt::join(received.report.notes, "; ")) == "");
    }

    TEST_CASE("the report accounts for rounds, bytes and the parts of the blackout") {
        Loopback test;
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        const auto& report = test.attempt.sent->report;
        REQUIRE(report.rounds.size() >= 2);
        // Each fifth of the 200 pages is zero.
        CHECK(report.rounds[0].raw_pages == formats::PageCount{160});
        CHECK(report.raw_page_bytes >= formats::bytes_of(formats::PageCount{160}));
        CHECK(report.wire_bytes > report.raw_page_bytes);
        CHECK(report.blackout.stop.count() > 0);
        CHECK(report.blackout.pages.count() > 0);
        CHECK(report.blackout.state.count() > 0);
        CHECK(report.blackout.load.count() > 0);
        CHECK(report.blackout.handover.count() > 0);
        CHECK(report.predicted_blackout.has_value());
        CHECK(report.plan == test.attempt.source_observer.findings);
        CHECK(report.plan == test.attempt.destination_observer.findings);
        CHECK(test.attempt.received->report.rounds.size() == report.rounds.size());
    }

    TEST_CASE(
        "C04 pages that were never touched, and zero pages in the first round, are not sent") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 256;
        options.writes_per_fetch = 0;
        const auto machine = running_machine(test.witness, options, 10);
        test.attempt.run(*machine, test.witness);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        // 8 of 10, and the one that the device wrote.
        CHECK(test.attempt.sent->report.raw_page_bytes == formats::Bytes{9 * 4096});
        CHECK(test.attempt.sent->report.wire_bytes < mib);
    }

    TEST_CASE("C04 a page that becomes zero after it was sent is zero on the destination") {
        Loopback test;
        TestMachineOptions options;
        options.writes_per_fetch = 200; // each fifth version is a zero page
        const auto machine = running_machine(test.witness, options);
        test.attempt.run(*machine, test.witness);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        const auto& rounds = test.attempt.sent->report.rounds;
        CHECK(std::ranges::any_of(rounds.begin() + 1, rounds.end(), [](const auto& round) {
            return round.zero_pages.value() > 0;
        }));
    }

    TEST_CASE("C03 a guest that writes from a thread of its own loses nothing") {
        for (std::uint32_t seed = 0; seed < 5; ++seed) {
            Loopback test;
            TestMachineOptions options;
            options.seed = seed;
            options.has_writer_thread = true;
            options.hot_pages = 100;
            test.attempt.source.policy.downtime = 5s;
            const auto machine = running_machine(test.witness, options);
            test.attempt.run(*machine, test.witness);
            CHECK(test.attempt.sent->state == SourceState::handed_off);
            CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        }
    }

    TEST_CASE("C05 RAM on both sides of the hole below 4 GiB arrives") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 3072 + mib * 2;
        const auto machine = running_machine(test.witness, options, 20);
        test.attempt.run(*machine, test.witness); // the device's page is the last, above the hole
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        CHECK(test.attempt.sent->state == SourceState::handed_off);
    }

    TEST_CASE("C08 a paused guest arrives paused") {
        Loopback test;
        TestMachine machine{{}, test.witness};
        machine.fill(50);
        test.attempt.run(machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(test.attempt.received->state == DestinationState::done);
        CHECK(test.witness.running() == 0);
        CHECK(test.attempt.arrived().check() == "");
    }

    TEST_CASE("C09 a guest goes there and back and there again") {
        Loopback test;
        std::unique_ptr<vmm::Machine> here = running_machine(test.witness);
        for (int hop = 0; hop < 10; ++hop) {
            Attempt attempt{test.io};
            auto& machine = static_cast<TestMachine&>(*here);
            attempt.run(machine, test.witness);
            REQUIRE(attempt.sent->state == SourceState::handed_off);
            CHECK(rule_broken(attempt, machine, test.witness) == "");
            here = std::move(attempt.received->machine);
        }
    }

    TEST_CASE("streams that deliver byte by byte or hold little change nothing") {
        Loopback test;
        test.attempt.to_destination.largest_piece = 1;
        test.attempt.to_source.largest_piece = 1;
        test.attempt.to_destination.capacity = 100;
        const auto machine = running_machine(test.witness, {}, 6);
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("progress goes through the phases in order, with sums that never shrink") {
        Loopback test;
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        const auto& told = test.attempt.source_observer.snapshots;
        REQUIRE(told.size() > 5);
        CHECK(std::ranges::is_sorted(
            told, {}, [](const auto& snapshot) { return static_cast<int>(snapshot.phase); }));
        CHECK(std::ranges::is_sorted(
            told, {}, [](const auto& snapshot) { return snapshot.wire_bytes; }));
        CHECK(told.back().phase == Phase::done);
        CHECK(told.back().memory == machine->memory().size());
    }

    TEST_CASE("V02 a guest that dirties too fast stays, at full speed, with the remedy named") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 64;
        options.hot_pages = 16'000;
        options.writes_per_fetch = 20'000;
        options.calming = 0;
        test.attempt.source.policy.downtime = 1ms;
        test.attempt.source.policy.on_stall = migrate::OnStall::abort;
        const auto machine = running_machine(test.witness, options);
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::reclaimed);
        const auto& error = *test.attempt.sent->error;
        CHECK(error.code() == ErrorCode::wrong_state);
        CHECK(error.phase() == Phase::precopy);
        CHECK(error.text().find("--downtime") != std::string::npos);
        CHECK(error.text().find("--on-stall stop") != std::string::npos);
        CHECK(
            test.attempt.received->error->text().find("the source failed: the migration does not "
                                                      "converge") != std::string::npos);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("V03 the same guest arrives where the user accepts any blackout") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 64;
        options.hot_pages = 16'000;
        options.writes_per_fetch = 20'000;
        options.calming = 0;
        test.attempt.source.policy.downtime = 1ms;
        test.attempt.source.policy.on_stall = migrate::OnStall::stop;
        const auto machine = running_machine(test.witness, options);
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("V07 a guest too fast for its link is slowed down, and not a moment longer") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 16;
        options.hot_pages = 4'000;
        options.writes_per_fetch = 6'000;
        options.calming = 0;
        // Three hundred thousand turns between the two sides a round take longer than this on any
        // machine, and what comes on top of the last round does not on a busy one.
        test.attempt.to_destination.capacity = 32;
        test.attempt.source.policy.downtime = 250ms;
        test.attempt.source.policy.on_stall = migrate::OnStall::throttle;
        const auto machine = running_machine(test.witness, options);
        test.attempt.run(*machine, test.witness);
        // How slow it must become is the machine's affair; that it is free afterwards is ours.
        const auto& sent = *test.attempt.sent;
        CHECK((sent.state == SourceState::handed_off || sent.state == SourceState::reclaimed));
        CHECK(machine->most_throttled() > 0);
        CHECK(std::ranges::any_of(sent.report.notes, [](const std::string& note) {
            return note.find("slowed down by") != std::string::npos;
        }));
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("a deadline ends even the first pass, and the guest goes on here") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 16;
        test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{64 * 1024};
        test.attempt.source.policy.deadline = 200ms;
        const auto machine = running_machine(test.witness, options, 3800); // three minutes
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::reclaimed);
        const auto& error = *test.attempt.sent->error;
        CHECK(error.code() == ErrorCode::timed_out);
        CHECK(error.phase() == Phase::precopy);
        CHECK(error.text().find("the deadline of 200 ms has passed") != std::string::npos);
        CHECK(
            test.attempt.received->error->text().find("the deadline of 200 ms") !=
            std::string::npos);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("a policy that is changed under way counts at once") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 16;
        migrate::PolicyTuner tuner{test.io.get_executor()};
        CHECK(tuner.change({.downtime = 1s}).error().code() == ErrorCode::wrong_state);
        test.attempt.source.tuner = &tuner;
        test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{64 * 1024};
        bool is_changed = false;
        test.attempt.source_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
            if (now.phase != Phase::precopy || std::exchange(is_changed, true)) {
                return;
            }
            CHECK(
                tuner.change({.downtime = Duration::zero()}).error().text().find("downtime") !=
                std::string::npos);
            CHECK(tuner.change(
                {.downtime = 700ms,
                 .on_stall = migrate::OnStall::stop,
                 .bandwidth = std::optional<migrate::BytesPerSecond>{}}));
        };
        const auto machine = running_machine(test.witness, options, 3800);
        test.attempt.run(*machine, test.witness); // not in three minutes
        CHECK(is_changed);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(test.attempt.source_observer.snapshots.back().downtime_goal == 700ms);
        CHECK(tuner.change({.downtime = 1s}).error().code() == ErrorCode::wrong_state);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("a deadline that is set under way counts, and one that is taken back does not") {
        for (const bool is_taken_back : {false, true}) {
            Loopback test;
            TestMachineOptions options;
            options.memory = mib * 16;
            migrate::PolicyTuner tuner{test.io.get_executor()};
            test.attempt.source.tuner = &tuner;
            test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{(mib * 4).value()};
            if (is_taken_back) {
                test.attempt.source.policy.deadline = 400ms;
            }
            bool is_changed = false;
            test.attempt.source_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
                if (now.phase == Phase::precopy && !std::exchange(is_changed, true)) {
                    using Deadline = std::optional<Duration>;
                    CHECK(tuner.change({.deadline = is_taken_back ? Deadline{} : Deadline{400ms}}));
                }
            };
            const auto machine = running_machine(test.witness, options, 800); // 2.5 MiB
            test.attempt.run(*machine, test.witness);
            CHECK(
                test.attempt.sent->state ==
                (is_taken_back ? SourceState::handed_off : SourceState::reclaimed));
            CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        }
    }

    TEST_CASE("a bandwidth limit holds for the rounds") {
        Loopback test;
        TestMachineOptions options;
        options.memory = mib * 16;
        test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{(mib * 20).value()};
        const auto machine = running_machine(test.witness, options, 3800); // 12 MiB raw
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        // 12 MiB less what the bucket holds, at 20 MiB/s.
        CHECK(test.attempt.sent->report.rounds[0].duration > 300ms);
    }

    TEST_CASE("F05 a destination without the means refuses before a machine or a page exists") {
        Loopback test;
        test.attempt.destination.available_memory = []() -> formats::Result<formats::Bytes> {
            return mib * 50;
        };
        test.attempt.destination.host.has_interrupt_controller = false;
        bool made = false;
        test.attempt.on_made = [&](TestMachine&) {
            made = true;
        };
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        CHECK_FALSE(made);
        const auto& error = *test.attempt.sent->error;
        CHECK(error.code() == ErrorCode::incompatible);
        CHECK(error.phase() == Phase::plan);
        CHECK(error.side() == formats::Side::destination);
        CHECK(error.text().starts_with("the destination refused: "));
        CHECK(error.text().find("memory") != std::string::npos);
        CHECK(error.text().find("interrupt controllers") != std::string::npos);
        CHECK(test.attempt.sent->report.rounds.empty());
        CHECK(test.attempt.received->error->code() == ErrorCode::incompatible);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("failures of either machine leave the guest running on the source") {
        struct Case {
            const char* name;
            std::optional<TestMachine::Operation> on_source, on_destination;
            const char* text;
        };
        const Case cases[]{
            {"save", TestMachine::Operation::save, {}, "saving the VM's state"},
            {"pause", TestMachine::Operation::pause, {}, "stopping the guest"},
            {"restore", {}, TestMachine::Operation::restore, "the destination failed: restoring"},
        };
        for (const Case& failing : cases) {
            CAPTURE(failing.name);
            Loopback test;
            const auto machine = running_machine(test.witness);
            if (failing.on_source) {
                machine->fail_next(*failing.on_source);
            } else {
                test.attempt.on_made = [&](TestMachine& made) {
                    made.fail_next(*failing.on_destination);
                };
            }
            test.attempt.run(*machine, test.witness);
            CHECK(test.attempt.sent->state == SourceState::reclaimed);
            CHECK_MESSAGE(
                test.attempt.sent->error->text().find(failing.text) != std::string::npos,
                test.attempt.sent->error->text());
            CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
            CHECK(retry(test.attempt, *machine, test.witness) == "");
        }
    }

    TEST_CASE("a guest that does not start after the commit is the destination's all the same") {
        Loopback test;
        test.attempt.on_made = [](TestMachine& made) {
            made.fail_next(TestMachine::Operation::resume);
        };
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(test.attempt.received->state == DestinationState::lost);
        CHECK(
            test.attempt.received->error->text().find("resume does not work today") !=
            std::string::npos);
        CHECK(test.witness.running() == 0);
        // Its second start works.
        CHECK(test.attempt.arrived().resume());
        CHECK(test.witness.running() == 1);
        CHECK_FALSE(test.witness.saw_two_at_once());
        CHECK(test.attempt.arrived().check() == "");
    }

    TEST_CASE("a dirty log that fails once costs a full round, twice the migration") {
        for (const int failures : {1, 2}) {
            CAPTURE(failures);
            Loopback test;
            const auto machine = running_machine(test.witness);
            machine->test_partition().failing_fetches = failures;
            test.attempt.run(*machine, test.witness);
            const bool arrived = test.attempt.sent->state == SourceState::handed_off;
            CHECK(arrived == (failures == 1));
            CHECK(test.attempt.sent->report.notes.size() == static_cast<std::size_t>(failures));
            CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        }
    }

    TEST_CASE("a guest that ends by itself ends the migration") {
        Loopback test;
        const auto machine = running_machine(test.witness);
        test.attempt.source_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
            if (now.phase == Phase::precopy && now.round_done.value() > 0) {
                machine->end_by_itself();
            }
        };
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->state == SourceState::reclaimed);
        CHECK(test.attempt.sent->error->text().find("it powered off") != std::string::npos);
        CHECK(test.attempt.received->state == DestinationState::abandoned);
    }

    TEST_CASE("a destination that cannot make the machine says why") {
        Loopback test;
        const auto machine = running_machine(test.witness);
        test.attempt.make_machine =
            [](const migrate::Arrival& arrival) -> formats::Result<std::unique_ptr<vmm::Machine>> {
            return formats::fail(
                ErrorCode::already_exists, "a VM named " + arrival.vm_name + " is here already");
        };
        test.attempt.run(*machine, test.witness);
        CHECK(test.attempt.sent->error->code() == ErrorCode::already_exists);
        CHECK(
            test.attempt.sent->error->text() ==
            "the destination refused: making the VM: a VM named vm is here already");
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("a connection that cannot be made leaves everything as it is") {
        Loopback test;
        const auto machine = running_machine(test.witness);
        test.attempt.start_source(*machine, [](auto, auto) { return no_connection(); });
        test.attempt.run_until_done();
        CHECK(test.attempt.sent->state == SourceState::reclaimed);
        CHECK(test.attempt.sent->error->code() == ErrorCode::unreachable);
        CHECK(test.attempt.sent->error->phase() == Phase::connect);
        CHECK(test.witness.running() == 1);
    }
}
