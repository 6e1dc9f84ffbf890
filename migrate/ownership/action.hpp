// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/event.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

/// What a side of a hand-over is told to do by its state machine. Carried out in order, one after
/// the other; the machine is told what came of those that say so.
namespace wherry::migrate {

using OwnershipDuration = std::chrono::steady_clock::duration;

namespace action {

/// To the peer. Without a connection it is dropped: the machine says it again where it matters.
struct Send {
    MessageKind kind{};
    Epoch epoch{};
    friend bool operator==(const Send&, const Send&) = default;
};
/// Appended to the journal and fsync'd. RecordWritten or RecordFailed follows. Always the last of
/// its list, so that what must not happen before it cannot.
struct WriteRecord {
    OwnershipRecord record;
    friend bool operator==(const WriteRecord&, const WriteRecord&) = default;
};
/// Lets the guest execute. GuestStarted or GuestNotStarted follows. Always the last of its list.
struct StartGuest {
    bool from_memory = true; ///< else it is booted, as after a power failure
    friend bool operator==(const StartGuest&, const StartGuest&) = default;
};
/// All vCPUs, for good.
struct StopGuest {
    friend bool operator==(const StopGuest&, const StopGuest&) = default;
};
/// The guest's memory and all else that is left of it here; the VM's name too.
struct DropMemory {
    friend bool operator==(const DropMemory&, const DropMemory&) = default;
};
/// Requests `wanted`, if there is one, and then reads the arbiter's record, whatever came of the
/// request. ArbiterSays or ArbiterUnreachable follows, within a limit of the carrier's.
struct AskArbiter {
    std::string arbiter;
    std::optional<ArbiterRecord> wanted;
    Asker asker{};
    friend bool operator==(const AskArbiter&, const AskArbiter&) = default;
};
/// Source: tries once to reach the destination again. Connected or Disconnected follows.
struct Connect {
    friend bool operator==(const Connect&, const Connect&) = default;
};
/// One for waits that end, one for what is tried again.
enum class Timer : std::uint8_t { wait, retry };
/// TimerExpired{serial} is due after that; replaces the earlier one of this `timer`.
struct Arm {
    Timer timer{};
    OwnershipDuration after{};
    std::uint64_t serial = 0;
    friend bool operator==(const Arm&, const Arm&) = default;
};
struct Disarm {
    Timer timer{};
    friend bool operator==(const Disarm&, const Disarm&) = default;
};

} // namespace action

using OwnershipAction = std::variant<
    action::Send,
    action::WriteRecord,
    action::StartGuest,
    action::StopGuest,
    action::DropMemory,
    action::AskArbiter,
    action::Connect,
    action::Arm,
    action::Disarm>;
using OwnershipActions = std::vector<OwnershipAction>;

} // namespace wherry::migrate
