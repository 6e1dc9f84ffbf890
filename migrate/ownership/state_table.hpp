// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/custody.hpp"
#include "migrate/ownership/owner.hpp"

#include <array>
#include <cstddef>
#include <string_view>

namespace wherry::migrate {

/// What a side says of itself in one of its owner's states.
template <typename State>
struct StateRow {
    State state;
    std::string_view name;
    Custody custody;
    CommitPoint commit_point;
    std::string_view sentence;
};

/// The way out of a state that waits for an arbiter's word which does not come.
inline constexpr std::string_view without_arbiter_hint =
    "; where it is gone for good, 'wherry resolve --no-arbiter' decides without it";

/// Whether each row stands where its state's number says.
template <typename State, std::size_t size>
constexpr bool is_in_order(const std::array<StateRow<State>, size>& rows) {
    for (std::size_t i = 0; i < size; ++i) {
        if (static_cast<std::size_t>(rows[i].state) != i) {
            return false;
        }
    }
    return true;
}

} // namespace wherry::migrate
