// SPDX-License-Identifier: Apache-2.0
// Snapshots of a machine without a CPU, whose guest writes whenever its log is read, and of one
// that writes as fast as it can; on a disk that fails, and cancelled at every moment.
#include "harness.hpp"
#include "migrate/image/guest_restore.hpp"
#include "migrate/image/image_increment.hpp"
#include "migrate/snapshot_session.hpp"
#include "tests/support/image_bench.hpp"
#include "tests/support/memory_disk.hpp"
#include "tests/support/temp_directory.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using namespace wherry::tests;
using formats::ErrorCode;
using formats::PageCount;
using formats::Phase;

namespace {

/// One snapshot within this process and thread.
struct Case {
    boost::asio::io_context io;
    RunWitness witness;
    CancelGate gate{io.get_executor()};
    RecordingObserver observer;
    SnapshotOptions options;
    TestMachineOptions machine_options;
    std::unique_ptr<TestMachine> machine;
    MemoryDisk disk;
    std::optional<SnapshotOutcome> outcome;

    explicit Case(const TestMachineOptions& with = {})
        : machine_options{with},
          machine{running_machine(witness, machine_options)} {
        options.policy.on_stall = OnStall::throttle;
        options.description = description_of(ImageExtent::whole);
        options.description.migration_id.clear();
    }

    const SnapshotOutcome& run() {
        auto file = NewImageFile::create(disk.directory(), "x.wimg");
        REQUIRE(file);
        transport::spawn(
            io.get_executor(),
            run_snapshot(
                *machine,
                options,
                std::make_unique<NewImageFile>(*std::move(file)),
                gate,
                observer),
            [this](formats::Result<SnapshotOutcome> result) {
                REQUIRE(result);
                outcome.emplace(*std::move(result));
            });
        io.run();
        return *outcome;
    }
    /// Whatever came of it: the guest runs, untracked and at full speed.
    void check_guest() const {
        CHECK_FALSE(machine->is_tracked());
        CHECK(machine->throttled() == 0);
        CHECK(machine->running_state() == vmm::RunningState::running);
        CHECK(machine->check() == "");
    }
    void check_nothing_is_left() { CHECK(disk_names().empty()); }
    std::vector<std::string> disk_names() { return *disk.directory()->names(); }
    [[nodiscard]] ImageReader reader() { return reader_of(disk.bytes_of("x.wimg")); }
    /// The guest of the image, as it finds itself.
    std::string check_restored() { return check_restored(reader()); }
    template <typename Image>
    std::string check_restored(Image image) {
        must(image.verify());
        RunWitness other_witness; // it is another VM
        TestMachine restored{machine_options, other_witness};
        must(restore_guest(image, restored, RestoredAs::new_vm));
        must(restored.resume());
        return restored.check();
    }
    /// Its image, as a file.
    std::filesystem::path save(const std::filesystem::path& path) {
        write_bytes(path, disk.bytes_of("x.wimg"));
        return path;
    }
};

TestMachineOptions busy_guest() {
    TestMachineOptions options;
    options.calming = 0;
    options.has_writer_thread = true;
    return options;
}

} // namespace

TEST_SUITE("migrate.snapshot") {
    TEST_CASE("N01 a live snapshot is the guest as it was at its stop, and the guest goes on") {
        Case test;
        const auto& outcome = test.run();
        REQUIRE_FALSE(outcome.error);
        test.check_guest();
        CHECK(test.check_restored() == "");
        CHECK(test.disk_names() == std::vector<std::string>{"x.wimg"});
        const auto image = test.reader();
        CHECK_FALSE(image.description().plan.stays_paused);
        CHECK(image.description().extent == ImageExtent::whole);
        // One pass while it ran, and the last pages.
        CHECK(outcome.report.rounds.size() >= 2);
        CHECK(outcome.report.rounds.front().raw_pages == PageCount{160}); // of 200
        CHECK(outcome.report.rounds.front().zero_pages == PageCount{40});
        CHECK(outcome.report.wire_bytes == image.size());
        CHECK(outcome.report.blackout.total() > Duration::zero());
    }

    TEST_CASE("N01 a live snapshot under a guest that writes all the time") {
        for (int i = 0; i < 20; ++i) {
            Case test{busy_guest()};
            REQUIRE_FALSE(test.run().error);
            test.check_guest();
            CHECK(test.check_restored() == "");
        }
    }

    TEST_CASE("N01 a guest can be stopped for all of its snapshot") {
        Case test{busy_guest()};
        test.options.way = SnapshotWay::paused;
        const auto& outcome = test.run();
        REQUIRE_FALSE(outcome.error);
        test.check_guest();
        CHECK(test.check_restored() == "");
        CHECK_FALSE(test.reader().description().plan.stays_paused);
        CHECK(outcome.report.rounds.size() == 1);
    }

    TEST_CASE("N01 a snapshot that is based on another one has what differs, and is the guest") {
        const TempDirectory directory;
        for (const auto way : {SnapshotWay::live, SnapshotWay::paused}) {
            for (int i = 0; i < 10; ++i) {
                Case first{busy_guest()};
                REQUIRE_FALSE(first.run().error);
                const auto base = first.save(directory.path() / "base.wimg");
                Case test{busy_guest()};
                test.machine = std::move(first.machine);
                test.options.way = way;
                test.options.base = std::make_shared<ImageChain>(must(ImageChain::open(base)));
                const auto& outcome = test.run();
                REQUIRE_FALSE(outcome.error);
                test.check_guest();
                CHECK(outcome.report.rounds.front().raw_pages < PageCount{160});
                const auto image = test.save(directory.path() / "image.wimg");
                CHECK(test.check_restored(must(ImageChain::open(image))) == "");
            }
        }
    }

    TEST_CASE("N01 a page that becomes again what it was in the base is told of once more") {
        const TempDirectory directory;
        Case first;
        REQUIRE_FALSE(first.run().error);
        const auto path = first.save(directory.path() / "base.wimg");
        auto base = must(ImageChain::open(path));
        const auto& memory = first.machine->memory();
        ImageOptions options{.given = GivenPages::again};
        auto increment = must(ImageIncrement::on(base, memory, options));
        std::vector<std::byte> as_it_was(formats::page_size);
        const auto page = range(1, 1);
        must(base.for_each_run([&](formats::PageRange pages, std::span<const std::byte> bytes) {
            if (pages.contains(page)) {
                const auto from = formats::bytes_of(page.first() - pages.first()).value();
                std::ranges::copy(bytes.subspan(from, formats::page_size), as_it_was.begin());
            }
            return formats::Status{};
        }));
        auto other = as_it_was;
        other[7] ^= std::byte{1};
        MemoryDisk disk;
        auto file = must(NewImageFile::create(disk.directory(), "y.wimg"));
        auto writer =
            must(ImageWriter::begin(file, base.description(), options, &increment.difference()));
        must(writer.add_pages(page, as_it_was)); // is in the base
        CHECK(writer.raw_pages() == PageCount{0});
        must(writer.add_pages(page, other));
        must(writer.add_pages(page, as_it_was));
        CHECK(writer.raw_pages() == PageCount{2});
    }

    TEST_CASE("a snapshot is not based on the image of another machine, or on half a guest") {
        const TempDirectory directory;
        Case first;
        first.options.description.extent = ImageExtent::source_half;
        REQUIRE_FALSE(first.run().error);
        const auto half = first.save(directory.path() / "half.wimg");
        Case test;
        test.options.base = std::make_shared<ImageChain>(must(ImageChain::open(half)));
        const auto& outcome = test.run();
        REQUIRE(outcome.error);
        CHECK(outcome.error->text().find("only a whole guest is a base") != std::string::npos);
        test.check_guest();
        test.check_nothing_is_left();
    }

    TEST_CASE("a guest that was paused stays so, here and in its image") {
        for (const auto way : {SnapshotWay::live, SnapshotWay::paused}) {
            Case test;
            must(test.machine->pause());
            test.options.way = way;
            REQUIRE_FALSE(test.run().error);
            CHECK(test.machine->running_state() == vmm::RunningState::paused);
            CHECK(test.reader().description().plan.stays_paused);
            CHECK(test.check_restored() == "");
        }
    }

    TEST_CASE("a guest that no round catches up with is slowed down, and then left alone") {
        Case test;
        test.options.fixed_cost = 1s; // above the goal: no round gets there
        const auto& outcome = test.run();
        REQUIRE(outcome.error);
        CHECK(outcome.error->code() == ErrorCode::wrong_state);
        CHECK(outcome.error->text().find("the snapshot does not converge") == 0);
        CHECK(outcome.error->text().find("--paused") != std::string::npos);
        test.check_guest();
        test.check_nothing_is_left();
    }

    TEST_CASE("a snapshot can be cancelled at any time, and nothing of it is left") {
        bool has_been_made = false;
        unsigned cancelled = 0;
        for (unsigned after = 0; !has_been_made; ++after) {
            Case test;
            unsigned steps = 0;
            bool was_in_time = false;
            test.observer.on_progress = [&](const ProgressSnapshot&) {
                if (steps++ == after) {
                    was_in_time = test.gate.request_cancel() == CancelAnswer::will_cancel;
                }
            };
            const auto& outcome = test.run();
            CHECK(outcome.error.has_value() == was_in_time);
            test.check_guest();
            if (was_in_time) {
                CHECK(outcome.error->code() == ErrorCode::cancelled);
                test.check_nothing_is_left();
                ++cancelled;
            } else {
                CHECK(test.check_restored() == "");
                has_been_made = true;
            }
        }
        CHECK(cancelled >= 5);
    }

    TEST_CASE("N05 a disk that fails at any call leaves the guest as it was") {
        std::uint64_t last_call = 0;
        {
            Case test;
            test.disk.set_script([&last_call](std::uint64_t call) {
                last_call = call;
                return DiskFault::none;
            });
            REQUIRE_FALSE(test.run().error);
        }
        constexpr std::uint64_t before_the_session = 3; // is it there, what is left, made
        CHECK(last_call > before_the_session + 10);
        for (std::uint64_t at = before_the_session; at <= last_call; ++at) {
            CAPTURE(at);
            Case test;
            test.disk.set_script([at](std::uint64_t call) {
                return call == at ? DiskFault::before : DiskFault::none;
            });
            const auto& outcome = test.run();
            test.disk.set_script({});
            test.check_guest();
            REQUIRE(outcome.error);
            CHECK(outcome.error->code() == ErrorCode::io);
            // A name that could not be made durable is there: of a whole image.
            if (test.disk.has("x.wimg")) {
                CHECK(at == last_call);
                CHECK(test.check_restored() == "");
            } else {
                test.check_nothing_is_left();
            }
            // And it can be written as if nothing had been.
            Case again;
            again.machine = std::move(test.machine);
            REQUIRE_FALSE(again.run().error);
            again.check_guest();
        }
    }

    TEST_CASE("a machine that fails to stop, to be saved or to go on is told of") {
        for (const auto operation :
             {TestMachine::Operation::pause,
              TestMachine::Operation::save,
              TestMachine::Operation::resume}) {
            Case test;
            test.machine->fail_next(operation);
            const auto& outcome = test.run();
            REQUIRE(outcome.error);
            CHECK_FALSE(test.machine->is_tracked());
            CHECK(test.machine->throttled() == 0);
            test.check_nothing_is_left();
            const bool runs = test.machine->running_state() == vmm::RunningState::running;
            CHECK(runs == (operation != TestMachine::Operation::resume));
        }
    }

    TEST_CASE("a guest that ends by itself has no snapshot") {
        Case test;
        test.observer.on_progress = [&test](const ProgressSnapshot& now) {
            if (now.phase == Phase::precopy && now.round == 0) {
                test.machine->end_by_itself();
            }
        };
        const auto& outcome = test.run();
        REQUIRE(outcome.error);
        CHECK(outcome.error->text().find("ended by itself") != std::string::npos);
        test.check_nothing_is_left();
    }

    TEST_CASE("a log that fails once makes more work, and twice none") {
        for (const int failures : {1, 2}) {
            Case test;
            test.machine->test_partition().failing_fetches = failures;
            const auto& outcome = test.run();
            CHECK(outcome.error.has_value() == (failures == 2));
            test.check_guest();
            if (failures == 1) {
                CHECK(test.check_restored() == "");
            }
        }
    }
}
