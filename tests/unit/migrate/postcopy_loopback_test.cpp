// SPDX-License-Identifier: Apache-2.0
// Whole migrations within one process whose guest goes on at the destination with pages missing.
#include "harness.hpp"
#include "vmm/userfault.hpp"

#include <algorithm>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <doctest/doctest.h>
#include <fmt/ranges.h>

using namespace wherry;
using namespace wherry::tests;
using formats::ErrorCode;
using formats::Phase;
using formats::Status;
using migrate::SourceState;

namespace {

/// What goes with the last round of pre-copy: dirtied just before the guest stood still.
constexpr formats::PageCount recent{256};

/// A guest that dirties most of its memory in each round, towards a goal that no round meets.
TestMachineOptions restless() {
    TestMachineOptions options;
    options.memory = formats::Bytes{std::uint64_t{16} << 20U};
    options.hot_pages = 3000;
    options.writes_per_fetch = 6000;
    options.calming = 0;
    return options;
}

struct PostCopy {
    PostCopy() {
        attempt.source.desk = &desk;
        attempt.destination.host.postcopy_obstacle.clear();
        // It touches what is missing, and waits for that as a vCPU would.
        attempt.destination_machine.hot_pages = 3000;
        attempt.destination_machine.has_writer_thread = true;
        // A connection that is lost is made again, and the notes say so.
        attempt.source.policy.recover_timeout.reset();
        attempt.destination.policy.recover_timeout.reset();
        attempt.source.policy.mode = migrate::Mode::hybrid;
        attempt.source.policy.downtime = 1ms;
    }
    /// Nobody but a person takes it to post-copy.
    void only_on_request() {
        attempt.source.policy.mode = migrate::Mode::precopy;
        attempt.source.policy.on_stall = migrate::OnStall::abort;
    }
    /// Any thread: as `wherry postcopy` does, from outside whatever runs here now.
    std::future<Status> ask() {
        auto promise = std::make_shared<std::promise<Status>>();
        boost::asio::post(io, [this, promise] {
            transport::spawn(
                io.get_executor(), desk.switch_to_postcopy(), [promise](const Status& answer) {
                    promise->set_value(answer);
                });
        });
        return promise->get_future();
    }
    /// Once, as soon as `when` holds of the source's progress.
    void ask_when(std::function<bool(const migrate::ProgressSnapshot&)> when) {
        attempt.source_observer.on_progress =
            [this, when = std::move(when)](const migrate::ProgressSnapshot& now) {
                if (!answer.valid() && when(now)) {
                    answer = ask();
                }
            };
    }
    static void check_done(std::future<Status>& asked) {
        const auto done = asked.get();
        CHECK_MESSAGE(done, (done ? "" : done.error().text()));
    }
    /// The guest went on there with pages missing, and has them all now.
    void check_switched(TestMachine& machine) {
        const auto& sent = *attempt.sent;
        CHECK_MESSAGE(!sent.error, (sent.error ? sent.error->text() : ""));
        CHECK(sent.state == SourceState::handed_off);
        CHECK(std::ranges::any_of(
            attempt.destination_observer.snapshots,
            [](const migrate::ProgressSnapshot& now) { return now.phase == Phase::postcopy; }));
        CHECK(rule_broken(attempt, machine, witness) == "");
    }

    boost::asio::io_context io;
    RunWitness witness;
    Attempt attempt{io};
    migrate::OperatorDesk desk{io.get_executor()};
    std::future<Status> answer; ///< to ask_when()
};

/// Told just before each channel takes a batch in hand, which comes before whatever is posted now.
bool is_in_first_pass(const migrate::ProgressSnapshot& now) {
    return now.phase == Phase::precopy && now.round_total.value() > 0;
}

bool can_wait_for_pages() {
    const auto able = vmm::Userfault::check();
    if (!able) {
        fmt::print("SKIPPED: migrate.postcopy_loopback: {}\n", able.error().text());
    }
    return able.has_value();
}

std::string joined(const std::vector<std::string>& notes) {
    return fmt::format("{}", fmt::join(notes, "; "));
}

} // namespace

TEST_SUITE("migrate.postcopy_loopback") {
    TEST_CASE("V04 a guest goes on with pages missing and gets them over the same connections") {
        if (!can_wait_for_pages()) {
            return;
        }
        PostCopy test;
        const auto machine = running_machine(test.witness, restless(), 3800);
        test.attempt.run(*machine, test.witness);
        const auto& sent = *test.attempt.sent;
        CHECK_MESSAGE(!sent.error, (sent.error ? sent.error->text() : ""));
        CHECK(sent.state == SourceState::handed_off);
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        CHECK(joined(sent.report.notes) == "");
        CHECK(joined(test.attempt.received->report.notes) == "");
        REQUIRE(sent.report.rounds.size() >= 3); // the first pass, the empty last one, the push
        CHECK(sent.report.rounds.back().raw_pages.value() > 0);
    }

    TEST_CASE("V04 hybrid mode does not go on with a first pass that is in vain") {
        if (!can_wait_for_pages()) {
            return;
        }
        PostCopy test;
        test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{std::uint64_t{4} << 20U};
        const auto machine = running_machine(test.witness, restless(), 3800); // 3 s at this rate
        test.attempt.run(*machine, test.witness);
        test.check_switched(*machine);
        const auto& report = test.attempt.sent->report;
        CHECK(joined(report.notes).find("dirties too fast for a pass") != std::string::npos);
        CHECK(report.rounds[0].raw_pages.value() < 3040);
        CHECK(report.rounds[1].raw_pages <= recent);
    }

    TEST_CASE("P01 the first pass is broken off at a person's word, however slow it was to be") {
        if (!can_wait_for_pages()) {
            return;
        }
        PostCopy test;
        test.only_on_request();
        test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{64 * 1024}; // minutes
        test.ask_when([](const migrate::ProgressSnapshot& now) { return is_in_first_pass(now); });
        const auto machine = running_machine(test.witness, restless(), 3800);
        test.attempt.run(*machine, test.witness);
        test.check_done(test.answer);
        test.check_switched(*machine);
        const auto& report = test.attempt.sent->report;
        CHECK(joined(report.notes) == "post-copy was asked for in round 0");
        CHECK(report.rounds[0].raw_pages.value() > 0);
        CHECK(report.rounds[0].raw_pages.value() < 2000); // of 3040
        CHECK(report.rounds[1].raw_pages <= recent);      // while the guest stood still
        CHECK_FALSE(report.predicted_first);
    }

    TEST_CASE("P01 asked for before the first page, all of them follow the guest") {
        if (!can_wait_for_pages()) {
            return;
        }
        PostCopy test;
        test.only_on_request();
        test.attempt.source_observer.on_planned = [&] {
            test.answer = test.ask();
        };
        const auto machine = running_machine(test.witness, restless(), 3800);
        test.attempt.run(*machine, test.witness);
        test.check_done(test.answer);
        test.check_switched(*machine);
        CHECK(test.attempt.sent->report.rounds[0].raw_pages <= recent);
    }

    TEST_CASE("P01 asked for between two rounds, the next one is not begun") {
        if (!can_wait_for_pages()) {
            return;
        }
        for (const int collection : {1, 2}) {
            CAPTURE(collection);
            PostCopy test;
            test.only_on_request();
            const auto machine = running_machine(test.witness, restless(), 3800);
            // Twice for each collection; the worker's, while the session waits for it.
            auto& hook = machine->test_partition().while_fetching;
            hook = [&, guest = hook, calls = 0]() mutable {
                guest();
                if (++calls == 2 * collection - 1) {
                    test.answer = test.ask();
                    test.answer.wait();
                }
            };
            test.attempt.run(*machine, test.witness);
            test.check_done(test.answer);
            test.check_switched(*machine);
            const auto& rounds = test.attempt.sent->report.rounds;
            // Those before, the last one, and what was pushed.
            CHECK(rounds.size() >= static_cast<std::size_t>(collection) + 2);
            CHECK(rounds[static_cast<std::size_t>(collection)].raw_pages <= recent);
        }
    }

    TEST_CASE("P01 asked for twice it is done once, and what goes wrong then is taken back") {
        if (!can_wait_for_pages()) {
            return;
        }
        enum class Then : std::uint8_t { nothing, cancelled, not_loaded };
        for (const Then then : {Then::nothing, Then::cancelled, Then::not_loaded}) {
            CAPTURE(static_cast<int>(then));
            PostCopy test;
            test.only_on_request();
            test.attempt.source.policy.bandwidth = migrate::BytesPerSecond{64 * 1024};
            std::future<Status> second;
            test.attempt.source_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
                if (is_in_first_pass(now) && !second.valid()) {
                    test.answer = test.ask();
                    second = test.ask();
                } else if (then == Then::cancelled && now.phase == Phase::stop_and_copy) {
                    CHECK(
                        test.attempt.source_gate.request_cancel() ==
                        migrate::CancelAnswer::will_cancel);
                }
            };
            test.attempt.on_made = [&](TestMachine& made) {
                if (then == Then::not_loaded) {
                    made.fail_next(TestMachine::Operation::restore);
                }
            };
            const auto machine = running_machine(test.witness, restless(), 3800);
            test.attempt.run(*machine, test.witness);
            test.check_done(test.answer);
            test.check_done(second);
            if (then == Then::nothing) {
                test.check_switched(*machine);
                CHECK(
                    joined(test.attempt.sent->report.notes) ==
                    "post-copy was asked for in round 0");
            } else {
                CHECK(test.attempt.sent->state == SourceState::reclaimed);
                CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
            }
        }
    }

    TEST_CASE("P01 once the guest stands still it is too late, and nothing changes") {
        PostCopy test;
        test.only_on_request();
        test.attempt.source.policy.downtime = 1s;
        test.ask_when(
            [](const migrate::ProgressSnapshot& now) { return now.phase == Phase::stop_and_copy; });
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        const auto answer = test.answer.get();
        REQUIRE_FALSE(answer);
        CHECK(answer.error().code() == ErrorCode::wrong_state);
        CHECK(answer.error().text().find("too late") != std::string::npos);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
        CHECK(joined(test.attempt.sent->report.notes) == "");
        CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
    }

    TEST_CASE("P01 a hybrid migration whose guest has been stopped needs no word any more") {
        if (!can_wait_for_pages()) {
            return;
        }
        PostCopy test;
        test.ask_when(
            [](const migrate::ProgressSnapshot& now) { return now.phase == Phase::stop_and_copy; });
        const auto machine = running_machine(test.witness, restless(), 3800);
        test.attempt.run(*machine, test.witness);
        CHECK(test.answer.get().error().text().find("in post-copy already") != std::string::npos);
        test.check_switched(*machine);
    }

    TEST_CASE("P01 who cannot switch is told why, and the migration goes on as it was") {
        struct Case {
            const char* name;
            Phase asked_in;
            bool is_able;
            bool is_cancelled;
            ErrorCode code;
            const char* text;
        };
        const Case cases[]{
            {"too early", Phase::connect, true, false, ErrorCode::wrong_state, "ask again"},
            {"not able", Phase::precopy, false, false, ErrorCode::unsupported, "no vCPUs that"},
            {"given up", Phase::precopy, true, true, ErrorCode::wrong_state, "being given up"},
        };
        for (const Case& refused : cases) {
            CAPTURE(refused.name);
            PostCopy test;
            test.only_on_request();
            test.attempt.source.policy.downtime = 1s;
            if (!refused.is_able) {
                test.attempt.destination.host.postcopy_obstacle =
                    test.attempt.destination_machine.backend.postcopy_obstacle;
            }
            test.ask_when([&](const migrate::ProgressSnapshot& now) {
                if (now.phase == refused.asked_in && refused.is_cancelled) {
                    CHECK(
                        test.attempt.source_gate.request_cancel() ==
                        migrate::CancelAnswer::will_cancel);
                }
                return now.phase == refused.asked_in;
            });
            const auto machine = running_machine(test.witness);
            test.attempt.run(*machine, test.witness);
            const auto answer = test.answer.get();
            REQUIRE_FALSE(answer);
            CHECK(answer.error().code() == refused.code);
            CHECK_MESSAGE(
                answer.error().text().find(refused.text) != std::string::npos,
                answer.error().text());
            CHECK(
                test.attempt.sent->state ==
                (refused.is_cancelled ? SourceState::reclaimed : SourceState::handed_off));
            CHECK(rule_broken(test.attempt, *machine, test.witness) == "");
        }
    }

    TEST_CASE("P01 where nothing is migrated there is nothing to switch") {
        PostCopy test;
        auto before = test.ask();
        test.io.poll();
        CHECK(before.get().error().code() == ErrorCode::wrong_state);
        test.attempt.destination.desk = &test.desk; // a destination's desk knows no such word
        test.attempt.source.desk = nullptr;
        test.only_on_request();
        test.attempt.source.policy.downtime = 1s;
        test.ask_when(
            [](const migrate::ProgressSnapshot& now) { return now.phase == Phase::precopy; });
        const auto machine = running_machine(test.witness);
        test.attempt.run(*machine, test.witness);
        CHECK(test.answer.get().error().code() == ErrorCode::wrong_state);
        CHECK(test.attempt.sent->state == SourceState::handed_off);
    }
}
