// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/arbiter.hpp"

#include <functional>

namespace wherry::tests {

using MakeArbiter = std::function<std::unique_ptr<migrate::Arbiter>()>;

/// For `epochs` offers one after another, threads with an arbiter each ask for COMMITTED and for
/// RECLAIMED at once: one of the two is done, all who are told so are told the same, and reads
/// agree.
void race_for_epochs(const MakeArbiter& make, int epochs);
/// The same by processes; calls fork().
void race_by_processes(const MakeArbiter& make, int epochs);
/// Random requests, right and wrong ones, one after another through two arbiters, against the rule.
void follow_the_rule(const MakeArbiter& make, std::uint64_t seed, int steps);

} // namespace wherry::tests
