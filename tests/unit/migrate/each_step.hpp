// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "harness.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace wherry::tests {

/// Whose channels, and of which kind: their steps are counted.
enum class Where : std::uint8_t {
    source,
    destination,
    source_bulk,
    destination_bulk,
    source_urgent,
    destination_urgent
};
std::shared_ptr<Script> script_of(Attempt& attempt, Where where);

/// How the attempts ended.
struct Tally {
    std::uint64_t steps = 0;
    int handed_off = 0, reclaimed = 0, source_in_doubt = 0, destination_in_doubt = 0;
    void add(const Attempt& attempt);
};

/// A guest with pages of both kinds, and with something to send in the last round.
TestMachineOptions small_guest();

using Prepare = std::function<void(Attempt&, Script&)>;
using Check = std::function<void(const Attempt&)>;

/// One migration of `guest` after another, each with what `prepare` makes of the script at its next
/// step, until the step is beyond the last one; after each the rule is checked, and that a second
/// attempt succeeds. `also` checks what is special to a fault.
Tally fail_at_each_step(
    Where where,
    const Prepare& prepare,
    const Check& also,
    const TestMachineOptions& guest = small_guest(),
    std::uint64_t filled = 20);

inline constexpr auto nothing_more = [](const Attempt&) {
};

} // namespace wherry::tests
