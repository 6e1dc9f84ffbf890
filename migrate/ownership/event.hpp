// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/epoch.hpp"
#include "migrate/ownership/record.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

/// What happens to a side of a hand-over, as its state machine is told of it. The names are those
/// of tests/model.
namespace wherry::migrate {

/// Of the hand-over only; each carries an epoch.
enum class MessageKind : std::uint8_t {
    offer,      ///< source: all is sent; take it
    commit,     ///< source, arbiter `local`: it is yours
    took_back,  ///< source: it stays here, your copy is old
    ask,        ///< source: what became of it?
    pages_lost, ///< source, post-copy: what is missing there is lost here
    accept,     ///< destination: I hold a whole copy and wait
    running,    ///< destination: it is mine, and my disk says so
    refused,    ///< destination: I never ran it and never will
    lost,       ///< destination: it was mine, and died here with its process
    complete,   ///< destination, post-copy: no page is missing any more
};
std::string_view name_of(MessageKind kind) noexcept;

/// In bytes, of what a peer may send.
inline constexpr std::size_t arbiter_name_limit = 1024;

/// What both sides know of one migration before the hand-over begins.
struct Attempt {
    std::string arbiter = "local"; ///< or a shared one's name, "file:DIR" for example
    std::string migration_id;
    bool pages_missing = false; ///< post-copy: the destination is to start without some pages
    [[nodiscard]] bool has_shared_arbiter() const { return is_shared_arbiter(arbiter); }
    friend bool operator==(const Attempt&, const Attempt&) = default;
};

namespace event {

// The source's own steps.
/// The guest stands still for the hand-over; only here may one begin.
struct GuestStopped {
    Attempt attempt;
};
/// All that the destination needs before it accepts is on its way, in front of the offer.
struct AllSent {};

// The destination's own steps.
/// The peer's offer, together with what it said of the attempt before.
struct Offered {
    Epoch epoch{};
    Attempt attempt;
};
/// Everything that was sent in front of the offer of `epoch` is in place.
struct Loaded {
    Epoch epoch{};
};
/// Post-copy: no page is missing any more.
struct LastPagePlaced {};

// Either side's.
/// The session cannot go on, for a reason of its own or its peer's.
struct Failed {
    std::string reason;
};
/// A user wants the migration to stop. Owner::commit_point() says beforehand what will come of it.
struct Cancelled {};
/// From the peer, any number of times and however late. Not for an offer.
struct Received {
    MessageKind kind{};
    Epoch epoch{};
};
/// A connection is there; nothing of the hand-over was said over it yet.
struct Connected {
    /// What the source said of itself; the destination learns from it which arbiter to turn to
    /// where its own journal does not know.
    Attempt attempt;
};
/// It is gone, or could not be made.
struct Disconnected {
    std::string reason;
};

// What came of an action.
struct RecordWritten {};
/// Whether it is on the disk is not known.
struct RecordFailed {
    std::string reason;
};
struct GuestStarted {};
/// Not one instruction was executed.
struct GuestNotStarted {
    std::string reason;
};
/// What the arbiter's record was read as, after a request was made or not.
struct ArbiterSays {
    std::optional<ArbiterRecord> record;
};
/// Whether it has carried the request out, or will, is not known.
struct ArbiterUnreachable {
    std::string reason;
};
/// `serial` is that of the action; one that was replaced meanwhile is recognised by it.
struct TimerExpired {
    std::uint64_t serial = 0;
};

} // namespace event

using OwnershipEvent = std::variant<
    event::GuestStopped,
    event::AllSent,
    event::Offered,
    event::Loaded,
    event::LastPagePlaced,
    event::Failed,
    event::Cancelled,
    event::Received,
    event::Connected,
    event::Disconnected,
    event::RecordWritten,
    event::RecordFailed,
    event::GuestStarted,
    event::GuestNotStarted,
    event::ArbiterSays,
    event::ArbiterUnreachable,
    event::TimerExpired>;

} // namespace wherry::migrate
