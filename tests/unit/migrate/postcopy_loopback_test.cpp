// SPDX-License-Identifier: Apache-2.0
// Whole migrations within one process whose guest goes on at the destination with pages missing.
#include "harness.hpp"
#include "vmm/userfault.hpp"

#include <memory>
#include <string>

#include <doctest/doctest.h>
#include <fmt/ranges.h>

using namespace wherry;
using namespace wherry::tests;
using migrate::SourceState;

namespace {

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
    boost::asio::io_context io;
    RunWitness witness;
    Attempt attempt{io};
};

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
}
