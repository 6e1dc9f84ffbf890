// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "migrate/custody.hpp"

#include <cstdint>
#include <span>
#include <string_view>

namespace wherry::migrate {

/// The source's way through a migration. formats/WIRE.md draws it.
enum class SourceState : std::uint8_t {
    idle,
    connect,
    plan,
    precopy,   ///< the guest runs, rounds of pages go out
    drain,     ///< the guest stands still; last pages and state go out
    offer,     ///< the destination has been offered the VM
    committed, ///< the VM is given up; the destination's word is awaited
    // The ends:
    handed_off, ///< the destination runs it
    reclaimed,  ///< it stays here, as before
    in_doubt,   ///< given up, and the destination's word never came
};

/// The destination's way.
enum class DestinationState : std::uint8_t {
    idle,
    plan,
    filling,
    loaded,   ///< all pages and state are in place
    accepted, ///< has said that it would run the VM; the source decides
    running,  ///< the source has committed: the VM is ours
    // The ends:
    done,
    abandoned, ///< the source has the VM; nothing is left here
    in_doubt,  ///< accepted, and the source's decision never came; or ours and it does not start
};

std::string_view name_of(SourceState state) noexcept;
std::string_view name_of(DestinationState state) noexcept;

std::span<const SourceState> successors(SourceState from) noexcept;
std::span<const DestinationState> successors(DestinationState from) noexcept;

/// What each state says about who may run the guest. The commit point is between offer and
/// committed.
Custody custody_of(SourceState state) noexcept;
Custody custody_of(DestinationState state) noexcept;

formats::Phase phase_of(SourceState state) noexcept;
formats::Phase phase_of(DestinationState state) noexcept;

/// Where a failure in `from` leads, whatever it is. Ends stay as they are.
SourceState after_failure(SourceState from) noexcept;
DestinationState after_failure(DestinationState from) noexcept;

/// One side's state; leaves it by legal steps only (a step that is not is a bug of ours).
template <typename State>
class StateMachine {
public:
    [[nodiscard]] State state() const noexcept { return state_; }
    [[nodiscard]] Custody custody() const noexcept { return custody_of(state_); }
    [[nodiscard]] static bool is_legal(State from, State to) noexcept {
        for (const State next : successors(from)) {
            if (next == to) {
                return true;
            }
        }
        return false;
    }
    void enter(State next) {
        formats::invariant(is_legal(state_, next), "a migration moves by legal steps only");
        state_ = next;
    }

private:
    State state_ = State::idle;
};
using SourceMachine = StateMachine<SourceState>;
using DestinationMachine = StateMachine<DestinationState>;

} // namespace wherry::migrate
