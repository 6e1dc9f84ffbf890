// SPDX-License-Identifier: Apache-2.0
#include "migrate/estimation.hpp"

#include "probe_visit.hpp"

#include <optional>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using namespace wherry::tests;
using formats::Bytes;
using formats::ErrorCode;
using formats::PageCount;
using formats::operator""_MiB;

namespace {

transport::Task<std::unique_ptr<transport::ByteStream>> cannot_connect() {
    co_return formats::fail(ErrorCode::unreachable, "nobody is there");
}

constexpr Bytes plenty{std::uint64_t{8} << 30U};

/// One estimation within this process and thread.
struct Case {
    boost::asio::io_context io;
    RunWitness witness;
    CancelGate gate{io.get_executor()};
    RecordingObserver observer;
    EstimationOptions options;
    std::unique_ptr<TestMachine> machine;
    std::optional<formats::Result<Estimation>> outcome;

    std::optional<Reception> reception; ///< of a destination, if there is one

    explicit Case(const TestMachineOptions& machine_options = {}) {
        options.for_time = 500ms;
        machine = running_machine(witness, machine_options);
    }
    formats::Result<Estimation>& run() {
        transport::spawn(
            io.get_executor(),
            run_estimation(*machine, options, gate, observer),
            [this](formats::Result<Estimation> result) {
                outcome.emplace(std::move(result));
                if (reception) {
                    reception->close();
                }
            });
        io.run();
        return *outcome;
    }
    /// One that waits for a VM with so much memory free.
    void wait_at_destination(Bytes free, vmm::BackendCapabilities host) {
        reception.emplace(io.get_executor(), ReceptionOptions{});
        ProbeDeskOptions desk;
        desk.host = std::move(host);
        desk.available_memory = [free]() -> formats::Result<Bytes> {
            return free;
        };
        transport::spawn(
            io.get_executor(),
            answer_probes(*reception, std::move(desk)),
            [](const formats::Status&) {});
        auto& asked = options.destination.emplace();
        asked.name.migration_id = "p-1";
        asked.plan.vm_name = "vm";
        asked.connect = [this](ChannelRole, std::uint32_t) {
            auto pair = transport::make_memory_pair(io.get_executor());
            reception->greet(std::move(pair.second));
            return hand_out(std::move(pair.first));
        };
    }
    /// Whatever came of it: the guest runs, untracked and at full speed.
    void check_guest() const {
        CHECK_FALSE(machine->is_tracked());
        CHECK(machine->throttled() == 0);
        CHECK(machine->running_state() == vmm::RunningState::running);
        CHECK(machine->check() == "");
    }
};

TestMachineOptions steady_guest() {
    TestMachineOptions options;
    options.calming = 0;
    return options;
}

RoundReport round_of(Bytes wire, Duration time) {
    RoundReport round;
    round.wire_bytes = wire;
    round.duration = time;
    return round;
}

} // namespace

TEST_SUITE("migrate.estimation") {
    TEST_CASE("a guest is watched, predicted and left as it was") {
        Case test{steady_guest()};
        const auto& found = test.run();
        REQUIRE(found);
        CHECK(found->tracker == "test dirty log");
        CHECK(found->watched >= Duration{500ms});
        CHECK(found->guest.raw_pages == PageCount{160}); // of 200, each fifth is zero
        CHECK(found->guest.zero_pages == PageCount{40});
        CHECK(found->written > PageCount{0});
        CHECK(found->written <= PageCount{65}); // the hot ones
        CHECK(found->guest.dirtied.points().size() > 1);
        CHECK(found->rate_source == RateSource::this_host);
        CHECK(found->estimate.ways.size() == 3);
        CHECK_FALSE(found->estimate.why.empty());
        CHECK_FALSE(test.observer.snapshots.empty());
        CHECK(test.gate.is_closed());
        test.check_guest();
    }

    TEST_CASE("a guest that stands still is predicted too") {
        Case test;
        REQUIRE(test.machine->pause());
        const auto& found = test.run();
        REQUIRE(found);
        CHECK(found->written == PageCount{0});
        CHECK(found->estimate.recommended == Way::precopy);
        CHECK_FALSE(test.machine->is_tracked());
        CHECK(test.machine->running_state() == vmm::RunningState::paused);
    }

    TEST_CASE("a cancel at any moment leaves the guest untracked") {
        for (const std::size_t snapshots : {0U, 1U, 3U}) {
            CAPTURE(snapshots);
            Case test{steady_guest()};
            test.options.for_time = 1min;
            if (snapshots == 0) {
                test.gate.request_cancel();
            }
            test.observer.on_progress = [&](const ProgressSnapshot&) {
                if (test.observer.snapshots.size() == snapshots) {
                    CHECK(test.machine->is_tracked());
                    CHECK(test.gate.request_cancel() == CancelAnswer::will_cancel);
                }
            };
            const auto& found = test.run();
            REQUIRE_FALSE(found);
            CHECK(found.error().code() == ErrorCode::cancelled);
            test.check_guest();
        }
    }

    TEST_CASE("a log that cannot be read ends it, and the guest goes on") {
        Case test{steady_guest()};
        test.observer.on_progress = [&](const ProgressSnapshot&) {
            test.machine->test_partition().failing_fetches = 1;
        };
        const auto& found = test.run();
        REQUIRE_FALSE(found);
        CHECK(found.error().code() == ErrorCode::io);
        test.check_guest();
    }

    TEST_CASE("a guest that ends by itself ends it") {
        Case test{steady_guest()};
        test.observer.on_progress = [&](const ProgressSnapshot&) {
            test.machine->end_by_itself();
        };
        const auto& found = test.run();
        REQUIRE_FALSE(found);
        CHECK(found.error().code() == ErrorCode::wrong_state);
        CHECK_FALSE(test.machine->is_tracked());
    }

    TEST_CASE("what cannot be asked is refused before anything is tracked") {
        Case test;
        test.options.for_time = 1ms;
        CHECK(test.run().error().code() == ErrorCode::invalid_argument);
        test.check_guest();
    }

    TEST_CASE("the rate is the last migration's, else the limit's, else this host's") {
        Case known;
        known.options.policy.bandwidth = BytesPerSecond{50'000'000};
        known.options.known_link = KnownLink{
            .usual = BytesPerSecond{90'000'000},
            .low = BytesPerSecond{80'000'000},
            .fixed_cost = 20ms};
        const auto& by_last = known.run();
        REQUIRE(by_last);
        CHECK(by_last->rate_source == RateSource::last_migration);
        CHECK(by_last->link.usual_rate == BytesPerSecond{90'000'000});
        CHECK(by_last->link.low_rate == BytesPerSecond{80'000'000});
        CHECK(by_last->link.usual_fixed_cost >= Duration{20ms});
        Case limited;
        limited.options.policy.bandwidth = BytesPerSecond{50'000'000};
        const auto& by_limit = limited.run();
        REQUIRE(by_limit);
        CHECK(by_limit->rate_source == RateSource::limit);
        CHECK(by_limit->link.usual_rate == BytesPerSecond{50'000'000});
    }

    TEST_CASE("a destination is asked, and what it says and the link carries is what counts") {
        Case test{steady_guest()};
        auto host = TestMachineOptions{}.backend;
        host.postcopy_obstacle = "there is no userfaultfd";
        test.wait_at_destination(plenty, host);
        test.options.support = HybridSupport::both_sides; // for all that this side knows
        test.options.known_link = KnownLink{
            .usual = BytesPerSecond{1'000},
            .low = BytesPerSecond{1'000},
            .fixed_cost = std::nullopt};
        const auto& found = test.run();
        REQUIRE_MESSAGE(found, (found ? "" : found.error().text()));
        REQUIRE(found->probe);
        CHECK(found->rate_source == RateSource::probe);
        CHECK(found->link.usual_rate <= found->probe->rate.usual);
        CHECK(found->link.usual_rate > BytesPerSecond{1'000});
        CHECK(found->link.low_rate <= found->link.usual_rate);
        CHECK(found->link.opening == found->probe->connecting + found->probe->planning);
        CHECK(found->estimate.recommended);
        CHECK(found->estimate.recommended != Way::hybrid);
        REQUIRE(test.observer.findings.size() > 3);
        CHECK(test.observer.findings.back() == "hybrid is not possible: there is no userfaultfd");
        test.check_guest();
    }

    TEST_CASE("a destination that would refuse the VM: nothing is recommended, and why") {
        Case test{steady_guest()};
        test.wait_at_destination(1_MiB, TestMachineOptions{}.backend);
        const auto& found = test.run();
        REQUIRE(found);
        REQUIRE(found->probe);
        REQUIRE(found->probe->verdict.objections.size() == 1);
        const std::string& objection = found->probe->verdict.objections.front();
        CHECK(objection.find("the VM needs") != std::string::npos);
        CHECK_FALSE(found->estimate.recommended);
        CHECK(found->estimate.why.find("would be refused: " + objection) != std::string::npos);
        CHECK(test.observer.findings.front() == "would be refused: " + objection);
        CHECK(found->rate_source == RateSource::probe);
        test.check_guest();
    }

    TEST_CASE("a destination that cannot be asked ends it before the guest is watched") {
        Case test;
        test.options.destination.emplace().connect = [](ChannelRole, std::uint32_t) {
            return cannot_connect();
        };
        const auto& found = test.run();
        REQUIRE_FALSE(found);
        CHECK(found.error().code() == ErrorCode::unreachable);
        CHECK(test.observer.snapshots.empty());
        test.check_guest();
    }

    TEST_CASE("a cancel while the link is measured ends it") {
        Case test{steady_guest()};
        test.wait_at_destination(plenty, TestMachineOptions{}.backend);
        test.options.policy.bandwidth = BytesPerSecond{std::uint64_t{64} << 10U};
        test.observer.on_planned = [&test] {
            CHECK(test.gate.request_cancel() == CancelAnswer::will_cancel);
        };
        const auto& found = test.run();
        REQUIRE_FALSE(found);
        CHECK(found.error().code() == ErrorCode::cancelled);
        CHECK(test.observer.snapshots.empty());
        test.check_guest();
    }

    TEST_CASE("a report tells of the link by its larger rounds, and of the blackout's rest") {
        Report report;
        CHECK_FALSE(link_of(report));
        report.rounds = {round_of(4_MiB, 1s)};
        CHECK_FALSE(link_of(report));
        report.rounds = {round_of(200_MiB, 1s), round_of(50_MiB, 500ms), round_of(1_MiB, 1s)};
        auto link = link_of(report);
        REQUIRE(link);
        CHECK(link->low.value() == (100_MiB).value());
        CHECK(
            static_cast<double>(link->usual.value()) ==
            doctest::Approx(static_cast<double>((250_MiB).value()) / 1.5));
        CHECK_FALSE(link->fixed_cost); // as on the destination
        report.blackout = {.stop = 1ms, .pages = 30ms, .state = 2ms, .load = 3ms, .handover = 4ms};
        CHECK(link_of(report)->fixed_cost == Duration{10ms});
    }
}
