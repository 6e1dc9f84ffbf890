// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/sim/schedule.hpp"
#include "tests/sim/witness.hpp"
#include "tests/sim/world.hpp"

#include <optional>
#include <string>

namespace wherry::sim {

struct Outcome {
    std::optional<Violation> violation;
    std::string end; ///< "runs on the source" ...
    Counts counts;
};

/// Plays a schedule to its end: faults until nothing moves; then all is repaired that will be;
/// then a careful person does what is left. `tell` gets every step, for people; may be empty.
Outcome run(const Schedule& schedule, const World::Tell& tell = {});

/// Of a schedule that violates something: one with fewer faults that violates the same.
Schedule shrink(const Schedule& schedule, const Violation& violation);

} // namespace wherry::sim
