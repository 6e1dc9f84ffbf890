// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/engine.hpp"

#include <functional>

namespace wherry::vmm::mshvsim {

/// The guest's own translation of a linear address (SDM vol. 3, chapter 4), without side effects.
struct Translation {
    enum class Outcome : std::uint8_t {
        success,
        not_present,
        privilege,
        bad_flags,
        table_unreadable, ///< `gpa` is the entry's
    };
    Outcome outcome = Outcome::success;
    std::uint64_t gpa = 0;
};
struct AccessRights {
    bool write = false, execute = false, user = false, check = false;
};
Translation translate(
    MemoryFaults& memory,
    const SystemRegisters& system,
    std::uint64_t linear,
    const AccessRights& rights);

/// Calls `visit` with the address of each table under CR3 until it says false or `most` were seen.
void visit_page_tables(
    MemoryFaults& memory,
    const SystemRegisters& system,
    std::size_t most,
    const std::function<bool(std::uint64_t table)>& visit);

} // namespace wherry::vmm::mshvsim
