// SPDX-License-Identifier: Apache-2.0
#include "migrate/first_pass.hpp"

#include <utility>

namespace wherry::migrate {

bool FirstPass::is_in_vain(
    const Convergence& convergence,
    Duration time,
    formats::PageCount sent,
    formats::PageCount dirtied) {
    next_look_ = 2 * time;
    return convergence.is_pass_in_vain(
        {.total = total_,
         .sent = sent,
         .dirtied_by_half = std::exchange(dirtied_by_half_, dirtied),
         .dirtied = dirtied});
}

} // namespace wherry::migrate
