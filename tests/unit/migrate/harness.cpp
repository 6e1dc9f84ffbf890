// SPDX-License-Identifier: Apache-2.0
#include "harness.hpp"

#include "vmm/userfault_source.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::tests {

namespace {

using migrate::Custody;
using migrate::DestinationState;
using migrate::SourceState;

bool runs(const vmm::Machine& machine) {
    return machine.running_state() == vmm::RunningState::running;
}

} // namespace

void RecordingObserver::progressed(const migrate::ProgressSnapshot& now) {
    snapshots.push_back(now);
    if (on_progress) {
        on_progress(now);
    }
}

void RecordingObserver::planned(const std::vector<std::string>& found) {
    findings = found;
    if (on_planned) {
        on_planned();
    }
}

Attempt::Attempt(boost::asio::io_context& with_io)
    : io{with_io},
      source_gate{with_io.get_executor()},
      destination_gate{with_io.get_executor()} {
    source.vm_name = "vm";
    source.migration_id = "m-1";
    source.epoch = migrate::Epoch{7};
    source.policy.streams = 2;
    source.keeper = &source_keeper;
    destination.keeper = &destination_keeper;
    // Whoever is in doubt says so at once; what comes back is tested where it is let come back.
    source.policy.recover_timeout = destination.policy.recover_timeout = 0ms;
    source.threads = destination.threads = migrate::ChannelThreads::session;
    destination.host = destination_machine.backend;
    destination.available_memory = []() -> formats::Result<formats::Bytes> {
        return formats::Bytes{std::uint64_t{8} << 30U};
    };
}

Attempt::~Attempt() {
    // What still waits here refers to this object.
    if (reception_) {
        reception_->close();
    }
    io.restart();
    io.poll();
}

void Attempt::start_source(TestMachine& machine, migrate::Connector connect) {
    wants_source_ = true;
    transport::spawn(
        io.get_executor(),
        migrate::run_source(machine, source, std::move(connect), source_gate, source_observer),
        [this](formats::Result<migrate::SourceOutcome> outcome) {
            formats::invariant(outcome.has_value(), "a session reports in its outcome");
            sent.emplace(*std::move(outcome));
        });
}

void Attempt::start_destination(RunWitness& witness) {
    wants_destination_ = true;
    migrate::ReceptionOptions options;
    options.silence = destination.policy.silence;
    options.busy_patience = 0ms;
    options.on_refusal = [this](const formats::Error& error) {
        refusals.push_back(error);
        if (!has_begun_) {
            migrate::DestinationOutcome outcome;
            outcome.error = error;
            conclude(std::move(outcome));
        }
    };
    reception_.emplace(io.get_executor(), std::move(options));
    destination.make_machine =
        [this, &witness](
            const migrate::Arrival& arrival) -> formats::Result<std::unique_ptr<vmm::Machine>> {
        if (make_machine) {
            return make_machine(arrival);
        }
        auto options = destination_machine;
        options.memory = arrival.config.memory;
        options.vcpus = arrival.config.vcpus;
        options.cpuid = arrival.config.cpuid;
        auto machine = std::make_unique<TestMachine>(options, witness);
        if (on_made) {
            on_made(*machine);
        }
        return machine;
    };
    transport::spawn(
        io.get_executor(),
        migrate::answer_inquiries(*reception_, desk()),
        [](const formats::Status& /*the reception was closed*/) {});
    transport::spawn(
        io.get_executor(), take_in(), [this](formats::Result<migrate::DestinationOutcome> outcome) {
            if (outcome) { // else the reception was closed
                conclude(*std::move(outcome));
            }
        });
}

migrate::InquiryDeskOptions Attempt::desk() {
    migrate::InquiryDeskOptions options;
    options.keeper = &destination_keeper;
    options.find_owner = [this](const migrate::Inquiry&, const std::string&)
        -> formats::Result<std::unique_ptr<migrate::DestinationOwner>> {
        if (!received || received->state == DestinationState::in_doubt) {
            return formats::fail(formats::ErrorCode::wrong_state, "a session has it in hand");
        }
        const auto records = destination_keeper.records();
        const auto last = records.empty() ? std::optional<migrate::OwnershipRecord>{}
                                          : std::optional{records.back()};
        const auto patience = destination.policy.ownership_patience();
        return received->state == DestinationState::done
                   ? migrate::DestinationOwner::holding(*last, patience)
                   : migrate::DestinationOwner::restarted(last, patience);
    };
    return options;
}

void Attempt::conclude(migrate::DestinationOutcome outcome) {
    if (!received) {
        received.emplace(std::move(outcome));
    }
}

transport::Task<migrate::DestinationOutcome> Attempt::take_in() {
    auto intake = co_await reception_->next_migration();
    if (!intake) {
        co_return formats::fail(std::move(intake).error());
    }
    has_begun_ = true;
    co_return co_await migrate::run_destination(
        *std::move(intake), destination, destination_gate, destination_observer);
}

transport::Task<std::unique_ptr<transport::ByteStream>>
Attempt::connect_in_memory(migrate::ChannelRole role) {
    const auto of_role = [role](const auto& control, const auto& bulk, const auto& urgent) {
        return role == migrate::ChannelRole::bulk     ? bulk
               : role == migrate::ChannelRole::urgent ? urgent
                                                      : control;
    };
    auto pair = transport::make_memory_pair(io.get_executor(), to_destination, to_source);
    reception_->greet(std::make_unique<ScriptedStream>(
        std::move(pair.second),
        of_role(destination_script, destination_bulk_script, destination_urgent_script)));
    co_return std::make_unique<ScriptedStream>(
        std::move(pair.first), of_role(source_script, source_bulk_script, source_urgent_script));
}

migrate::Connector Attempt::connector() {
    return [this](migrate::ChannelRole role, std::uint32_t) {
        return connect_in_memory(role);
    };
}

void Attempt::run_until_done(migrate::Duration limit) {
    io.restart();
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!is_done() && io.run_one_until(end) > 0) {
    }
    if (!is_done()) {
        const auto waits_for = [](const RecordingObserver& observer) {
            const bool has_said = !observer.snapshots.empty();
            return has_said ? observer.snapshots.back().ownership : "(nothing yet)";
        };
        fmt::print(
            stderr,
            "source {}: {}\ndestination {}: {}\n",
            sent ? "has ended" : "is at work",
            waits_for(source_observer),
            received ? "has ended" : "is at work",
            waits_for(destination_observer));
        formats::invariant(false, "a migration of a test ends");
    }
    // What is left are ends of things already decided.
    io.poll();
}

void Attempt::go_hybrid() {
    source.policy.mode = migrate::Mode::hybrid;
    source.policy.downtime = 1ms; // less than any stop costs
    destination_machine.allow_missing_pages();
    destination.host = destination_machine.backend;
}

void Attempt::run(TestMachine& machine, RunWitness& witness) {
    start_destination(witness);
    start_source(machine, connector());
    run_until_done();
}

std::unique_ptr<TestMachine>
running_machine(RunWitness& witness, const TestMachineOptions& options, std::uint64_t filled) {
    auto machine = std::make_unique<TestMachine>(options, witness);
    machine->fill(filled);
    auto resumed = machine->resume();
    formats::invariant(resumed.has_value(), "a fresh machine starts");
    return machine;
}

bool can_miss_pages(std::string_view test) {
    auto memory = vmm::GuestMemory::create(formats::Bytes{std::uint64_t{2} << 20U});
    formats::invariant(memory.has_value(), "a test has memory for its guests");
    const auto source = vmm::UserfaultSource::open(*memory);
    if (!source) {
        fmt::print("SKIPPED: {}: {}\n", test, source.error().text());
    }
    return source.has_value();
}

std::string rule_broken(Attempt& attempt, TestMachine& machine, const RunWitness& witness) {
    const auto& sent = *attempt.sent;
    auto& received = *attempt.received;
    if (witness.saw_two_at_once()) {
        return "two guests ran at once";
    }
    if (machine.is_tracked()) {
        return "the source's dirty tracking was left on";
    }
    if (machine.throttled() != 0) {
        return "the source's guest was left slowed down";
    }
    if ((sent.custody == Custody::source) != runs(machine)) {
        return "the source runs its guest exactly when it is its own";
    }
    if (sent.custody == Custody::source && received.custody == Custody::destination) {
        return "both sides call the guest their own";
    }
    if (sent.state == SourceState::handed_off && received.state != DestinationState::done) {
        return "handed off, and the destination does not have it";
    }
    if (sent.state == SourceState::in_doubt && received.state == DestinationState::abandoned) {
        return "in doubt on the source, and the destination has thrown it away";
    }
    if (received.state == DestinationState::abandoned && received.machine) {
        return "abandoned, and the machine is still there";
    }
    if (received.state == DestinationState::done && !runs(*received.machine)) {
        return "done, and the destination's guest does not run";
    }
    if (received.state == DestinationState::in_doubt && runs(*received.machine)) {
        return "in doubt, and the destination's guest runs";
    }
    if (received.machine && !attempt.arrived().check().empty()) {
        return attempt.arrived().check();
    }
    if (sent.state != SourceState::handed_off && !sent.error) {
        return "a failure without an error";
    }
    return {};
}

std::string retry(Attempt& failed, TestMachine& machine, RunWitness& witness) {
    if (failed.received->state == DestinationState::done) {
        // What a person finds out by looking: it runs over there.
        return runs(machine) ? "a guest on each side" : "";
    }
    if (failed.received->doubt) {
        auto decided = failed.received->doubt->resolve(migrate::Keep::source);
        if (!decided || runs(*failed.received->machine)) {
            return "keeping the source's guest started the destination's";
        }
        failed.received->machine.reset();
    }
    if (failed.sent->doubt) {
        auto decided = failed.sent->doubt->resolve(migrate::Keep::source);
        if (!decided || !runs(machine)) {
            return "keeping the source's guest did not start it";
        }
    }
    Attempt again{failed.io};
    again.run(machine, witness);
    if (again.sent->state != SourceState::handed_off) {
        return "the second attempt failed: " + again.sent->error->text();
    }
    return rule_broken(again, machine, witness);
}

} // namespace wherry::tests
