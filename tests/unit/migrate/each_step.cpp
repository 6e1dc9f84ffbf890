// SPDX-License-Identifier: Apache-2.0
#include "each_step.hpp"

#include <doctest/doctest.h>

namespace wherry::tests {

std::shared_ptr<Script> script_of(Attempt& attempt, Where where) {
    switch (where) {
    case Where::source:
        return attempt.source_script;
    case Where::destination:
        return attempt.destination_script;
    case Where::source_bulk:
        return attempt.source_bulk_script;
    case Where::destination_bulk:
        return attempt.destination_bulk_script;
    case Where::source_urgent:
        return attempt.source_urgent_script;
    case Where::destination_urgent:
        return attempt.destination_urgent_script;
    }
    return nullptr;
}

void Tally::add(const Attempt& attempt) {
    using migrate::DestinationState;
    using migrate::SourceState;
    handed_off += attempt.sent->state == SourceState::handed_off ? 1 : 0;
    reclaimed += attempt.sent->state == SourceState::reclaimed ? 1 : 0;
    source_in_doubt += attempt.sent->state == SourceState::in_doubt ? 1 : 0;
    destination_in_doubt += attempt.received->state == DestinationState::in_doubt ? 1 : 0;
}

TestMachineOptions small_guest() {
    TestMachineOptions options;
    options.writes_per_fetch = 6;
    options.hot_pages = 12;
    options.calming = 1;
    return options;
}

Tally fail_at_each_step(
    Where where,
    const Prepare& prepare,
    const Check& also,
    const TestMachineOptions& guest,
    std::uint64_t filled) {
    Tally tally;
    for (std::uint64_t step = 0;; ++step) {
        CAPTURE(step);
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        const auto machine = running_machine(witness, guest, filled);
        const auto script = script_of(attempt, where);
        script->at = step;
        prepare(attempt, *script);
        attempt.run(*machine, witness);
        CHECK(rule_broken(attempt, *machine, witness) == "");
        also(attempt);
        tally.add(attempt);
        CHECK(retry(attempt, *machine, witness) == "");
        if (!script->fired) {
            CHECK(attempt.sent->state == migrate::SourceState::handed_off);
            tally.steps = step;
            return tally;
        }
    }
}

} // namespace wherry::tests
