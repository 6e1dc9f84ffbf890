// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "migrate/custody.hpp"
#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/source_owner.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace wherry::migrate {

/// The source's way through a migration. formats/WIRE.md draws it. From drain on it is what the
/// SourceOwner says; only what a user may want to know of that has a state here.
enum class SourceState : std::uint8_t {
    idle,
    connect,
    plan,
    precopy,   ///< the guest runs, rounds of pages go out
    drain,     ///< the guest stands still; last pages and state go out
    offer,     ///< the destination has been offered the VM
    committed, ///< the VM is given up; the destination's word is awaited
    serving,   ///< post-copy: the destination runs it and gets the pages it misses
    split,     ///< post-copy: half of its memory is gone
    in_doubt,  ///< which side has it is not known here
    // The ends, and in_doubt where nobody wants to wait any more:
    handed_off, ///< the destination runs it
    reclaimed,  ///< it stays here, as before
    lost,       ///< it is here, and does not go on
    salvaged,   ///< never runs again from here
};

/// The destination's way; from loaded on it is what the DestinationOwner says.
enum class DestinationState : std::uint8_t {
    idle,
    plan,
    filling,
    loaded,   ///< all pages and state are in place
    accepted, ///< has said that it would run the VM; the source or an arbiter decides
    running,  ///< the VM is ours, and about to run
    faulting, ///< post-copy: runs, and pages are still missing
    split,    ///< post-copy: half of its memory is gone
    in_doubt, ///< which side has it is not known here
    // The ends, and in_doubt where nobody wants to wait any more:
    done,
    abandoned, ///< the source has the VM; nothing is left here
    lost,      ///< it is here, and does not start
    salvaged,  ///< never runs again from here
};

std::string_view name_of(SourceState state) noexcept;
std::string_view name_of(DestinationState state) noexcept;

/// Of a phase; none where the owner says what follows.
std::span<const SourceState> successors(SourceState from) noexcept;
std::span<const DestinationState> successors(DestinationState from) noexcept;

/// What each state says about who may run the guest. The commit point is between offer and
/// committed.
Custody custody_of(SourceState state) noexcept;
Custody custody_of(DestinationState state) noexcept;

formats::Phase phase_of(SourceState state) noexcept;
formats::Phase phase_of(DestinationState state) noexcept;

/// What an owner's state is called here; nothing where it makes no difference to anybody outside.
std::optional<SourceState> mirrored(SourceOwnerState state) noexcept;
std::optional<DestinationState> mirrored(DestinationOwnerState state) noexcept;

/// One side's state. As long as it has not been asked who has the VM it moves by legal steps only
/// (a step that is not is a bug of ours).
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
    /// What the owner has become: its own rules are what counts then.
    void follow(State next) noexcept { state_ = next; }

private:
    State state_ = State::idle;
};
using SourceMachine = StateMachine<SourceState>;
using DestinationMachine = StateMachine<DestinationState>;

} // namespace wherry::migrate
