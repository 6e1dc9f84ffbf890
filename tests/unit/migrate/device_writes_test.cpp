// SPDX-License-Identifier: Apache-2.0
// C06: what the VMM itself writes into guest memory is in no log of the hypervisor's. A device is
// at it during each pass, between any two of them, and after the vCPUs have stopped.
#include "harness.hpp"

#include <map>
#include <random>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using migrate::SourceState;

namespace {

constexpr std::uint64_t filled = 200;

/// Writes pages of its own (those of the guest stay apart) through the call that devices use.
class BusyDevice {
public:
    BusyDevice(TestMachine& machine, const Attempt& attempt)
        : machine_{machine},
          attempt_{attempt} {}

    void write() {
        const auto& told = attempt_.source_observer.snapshots;
        if (machine_.write_as_device(filled + random_() % 100) && !told.empty()) {
            ++writes_[told.back().round];
        }
    }
    /// In this pass, and until the next one began.
    [[nodiscard]] int writes_in(std::uint32_t round) const {
        const auto found = writes_.find(round);
        return found == writes_.end() ? 0 : found->second;
    }

private:
    TestMachine& machine_;
    const Attempt& attempt_;
    std::mt19937 random_{7};
    std::map<std::uint32_t, int> writes_;
};

void migrate_with_busy_device(Attempt& attempt, RunWitness& witness) {
    TestMachineOptions options;
    options.writes_per_fetch = 40;
    options.hot_pages = filled;
    const auto machine = running_machine(witness, options, filled);
    BusyDevice device{*machine, attempt};
    // Each piece of a pass that leaves, and each word that comes back.
    attempt.source_bulk_script->on_step = [&] {
        device.write();
    };
    attempt.source_script->on_step = [&] {
        device.write();
    };
    attempt.run(*machine, witness);
    CHECK(attempt.sent->state == SourceState::handed_off);
    CHECK(rule_broken(attempt, *machine, witness) == "");
    // The last round of the report is the one after the stop: a device writes no more then but at
    // the stop itself (TestMachine::pause).
    const auto& rounds = attempt.sent->report.rounds;
    REQUIRE(rounds.size() >= 2);
    for (std::uint32_t round = 0; round + 1 < rounds.size() && round < 2; ++round) {
        CAPTURE(round);
        CHECK(device.writes_in(round) > 0);
    }
    attempt.source_bulk_script->on_step = {};
    attempt.source_script->on_step = {};
}

} // namespace

TEST_SUITE("migrate.device_writes") {
    TEST_CASE("C06 what a device writes in each pass and at the stop arrives") {
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        migrate_with_busy_device(attempt, witness);
    }

    TEST_CASE(
        "C06 P01 so it does in hybrid, and a device waits for a missing page as a vCPU does") {
        if (!can_miss_pages("migrate.device_writes")) {
            return;
        }
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        attempt.go_hybrid();
        std::jthread device;
        std::atomic<int> written = 0;
        attempt.on_made = [&](TestMachine& made) {
            device = std::jthread{[&made, &written] {
                // Pages of the guest's, which were dirty at the stop; from the moment it runs
                // there.
                for (std::uint64_t index = 0; index < filled;) {
                    if (made.write_as_device(index)) {
                        ++index;
                        ++written;
                    } else {
                        std::this_thread::yield();
                    }
                }
            }};
        };
        migrate_with_busy_device(attempt, witness);
        device.join();
        CHECK(written == filled);
        CHECK(attempt.arrived().check() == "");
    }
}
