// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/destination_session.hpp"
#include "migrate/inquiry.hpp"
#include "migrate/source_session.hpp"
#include "tests/support/memory_keeper.hpp"
#include "tests/support/scripted_stream.hpp"
#include "tests/support/test_machine.hpp"
#include "transport/memory_stream.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

namespace wherry::tests {

using namespace std::chrono_literals;

/// Keeps what it was told.
class RecordingObserver final : public migrate::Observer {
public:
    void progressed(const migrate::ProgressSnapshot& now) override;
    void planned(const std::vector<std::string>& found) override;
    std::vector<migrate::ProgressSnapshot> snapshots;
    std::vector<std::string> findings;
    std::function<void(const migrate::ProgressSnapshot&)> on_progress;
    std::function<void()> on_planned;
};

/// One migration within this process and thread, and what may go wrong in it.
struct Attempt {
    /// Both sides work on one thread, over two bulk channels.
    explicit Attempt(boost::asio::io_context& with_io);
    Attempt(const Attempt&) = delete;
    Attempt& operator=(const Attempt&) = delete;
    ~Attempt();

    boost::asio::io_context& io;
    migrate::SourceOptions source;
    migrate::DestinationOptions destination;
    TestMachineOptions destination_machine;
    /// Steps of each side's control channel, of its bulk channels together, and of its urgent
    /// channel, over all connections; with what goes wrong at one of them.
    std::shared_ptr<Script> source_script = std::make_shared<Script>();
    std::shared_ptr<Script> destination_script = std::make_shared<Script>();
    std::shared_ptr<Script> source_bulk_script = std::make_shared<Script>();
    std::shared_ptr<Script> destination_bulk_script = std::make_shared<Script>();
    std::shared_ptr<Script> source_urgent_script = std::make_shared<Script>();
    std::shared_ptr<Script> destination_urgent_script = std::make_shared<Script>();
    transport::MemoryPipeOptions to_destination;
    transport::MemoryPipeOptions to_source;
    MemoryKeeper source_keeper;
    MemoryKeeper destination_keeper;
    migrate::CancelGate source_gate;
    migrate::CancelGate destination_gate;
    RecordingObserver source_observer;
    RecordingObserver destination_observer;
    /// Called with the machine that the destination made.
    std::function<void(TestMachine&)> on_made;
    /// Used instead of making a TestMachine.
    migrate::MachineFactory make_machine;

    std::optional<migrate::SourceOutcome> sent;
    /// Of a source that the reception refused: abandoned, with that error.
    std::optional<migrate::DestinationOutcome> received;
    std::vector<formats::Error> refusals;

    /// The guest goes on at the destination after one pass, with pages missing.
    void go_hybrid();
    /// Both sides to their ends.
    void run(TestMachine& machine, RunWitness& witness);
    /// Only one side. What connects to the destination is to be brought to its reception.
    void start_source(TestMachine& machine, migrate::Connector connect);
    void start_destination(RunWitness& witness);
    [[nodiscard]] migrate::Reception& reception() { return *reception_; }
    /// Streams in memory, with the scripts above, to the reception.
    [[nodiscard]] migrate::Connector connector();
    /// Neither side waits longer than this for the other: the program ends, with what it waits for.
    void run_until_done(migrate::Duration limit = 60s);
    [[nodiscard]] TestMachine& arrived() { return static_cast<TestMachine&>(*received->machine); }

private:
    transport::Task<migrate::DestinationOutcome> take_in();
    /// For sources that come back after the session.
    migrate::InquiryDeskOptions desk();
    transport::Task<std::unique_ptr<transport::ByteStream>>
    connect_in_memory(migrate::ChannelRole role);
    void conclude(migrate::DestinationOutcome outcome);
    [[nodiscard]] bool is_done() const {
        return (!wants_source_ || sent) && (!wants_destination_ || received);
    }

    std::optional<migrate::Reception> reception_;
    bool wants_source_ = false;
    bool wants_destination_ = false;
    bool has_begun_ = false; ///< the destination's session
};

/// A running machine of 512 pages with 200 of them filled.
std::unique_ptr<TestMachine> running_machine(
    RunWitness& witness, const TestMachineOptions& options = {}, std::uint64_t filled = 200);

/// Whether this host lets a test wait for missing pages; says so where it does not, and the test of
/// this name is to be left out.
bool can_miss_pages(std::string_view test);

/// What the two outcomes and machines say about the one rule; empty: it holds. Checks as well that
/// a source that keeps its VM runs it untracked, and that a destination that has it, has all of it.
std::string rule_broken(Attempt& attempt, TestMachine& machine, const RunWitness& witness);

/// After an attempt that failed: decides what is in doubt as a person would, then migrates again,
/// without faults. Empty: the guest arrived, complete.
std::string retry(Attempt& failed, TestMachine& machine, RunWitness& witness);

} // namespace wherry::tests
