// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/action.hpp"
#include "migrate/ownership/event.hpp"

#include <optional>
#include <string>

namespace wherry::tests {

/// "COMMITTED(3)".
std::string words_for(const migrate::OwnershipRecord& record);
std::string words_for(const migrate::ArbiterRecord& record);
/// "nothing" or "OFFERED(3)".
std::string words_for(const std::optional<migrate::ArbiterRecord>& record);
/// "write COMMITTED(3)", "send commit(3)", "ask for RECLAIMED(4)" ...
std::string words_for(const migrate::OwnershipAction& action);
/// "accept(3)", "record written" ...
std::string words_for(const migrate::OwnershipEvent& event);
/// All in order, with ", " between them; without timers, which are no part of what is decided.
std::string words_for(const migrate::OwnershipActions& actions);

} // namespace wherry::tests
