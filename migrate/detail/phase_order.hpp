// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/task.hpp"

#include <array>
#include <cstddef>

namespace wherry::migrate::detail {

/// Runs the phases of a session one after another, until one fails or the session is cancelled,
/// which is looked for after each. `session` outlives the task.
template <typename Session, std::size_t Count>
transport::Task<void>
in_order(Session& session, std::array<transport::Task<void> (Session::*)(), Count> phases) {
    for (const auto phase : phases) {
        auto done = co_await (session.*phase)();
        if (!done) {
            co_return done;
        }
        auto alive = co_await transport::check_cancelled();
        if (!alive) {
            co_return alive;
        }
    }
    co_return formats::Status{};
}

} // namespace wherry::migrate::detail
