// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/ownership/owner.hpp"
#include "transport/rate_limiter.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace wherry::migrate {

using Duration = std::chrono::steady_clock::duration;
using transport::BytesPerSecond;

/// For a last word to a peer, or from it.
inline constexpr Duration longest_farewell = std::chrono::seconds{1};

/// What to do when rounds of pre-copy do not get smaller any more.
enum class OnStall : std::uint8_t {
    abort,    ///< fail; the VM stays on the source, untouched
    stop,     ///< switch over whatever the blackout will be
    throttle, ///< slow the guest down until rounds get smaller, as far as it goes; then fail
    hybrid,   ///< let the guest go on at the destination, which gets the rest as it needs it
};
/// "abort", "stop", "throttle", "hybrid".
formats::Result<OnStall> on_stall_from(std::string_view name);

/// How memory gets across.
enum class Mode : std::uint8_t {
    precopy, ///< all of it before the guest is stopped
    hybrid,  ///< all of it once; what was dirtied meanwhile follows the guest
};

/// Whether both sides of a migration can run a guest whose memory is not all there.
enum class HybridSupport : std::uint8_t { none, both_sides };
/// The answer to a stall of who has given none.
[[nodiscard]] constexpr OnStall default_on_stall(HybridSupport support) noexcept {
    return support == HybridSupport::both_sides ? OnStall::hybrid : OnStall::throttle;
}

/// How many channels of one role a migration may have.
inline constexpr std::uint32_t channels_limit = 16;

/// What the user may ask of a migration.
struct Policy {
    /// The blackout aimed at: the switch-over happens when the predicted one is within it.
    Duration downtime = std::chrono::milliseconds{100};
    Mode mode = Mode::precopy;
    /// Unset: default_on_stall(), once it is known what both sides can do.
    std::optional<OnStall> on_stall;
    /// For everything until the guest stands still, from the start of the migration. What follows
    /// when it has passed is what follows a stall; a guest is not slowed down then, but stays.
    std::optional<Duration> deadline;
    /// Rounds in a row that left less than a tenth fewer pages than the best before them.
    std::uint32_t stall_rounds = 4;
    std::uint32_t max_rounds = 40;
    /// Upper limit on the wire. Not applied while the guest stands still.
    std::optional<BytesPerSecond> bandwidth;
    /// The same for what follows the guest in post-copy. Pages that it waits for do not wait.
    std::optional<BytesPerSecond> postcopy_bandwidth;
    /// How long a lost connection is tried to be made again once the guest has been given up, until
    /// a person is left to decide. Unset: for ever.
    std::optional<Duration> recover_timeout;
    /// Bulk channels, 1 to 16. Unset: as many as the processors of this host can feed.
    std::optional<std::uint32_t> streams;
    /// The peer counts as lost when nothing came from it, or it took nothing, for this long.
    /// Each side tells the other its own limit and is heard from four times as often.
    Duration silence = std::chrono::seconds{10};
    /// For the plan and its answer, while the destination makes its machine; and for the source to
    /// open its other channels, then and after a lost connection.
    Duration plan_deadline = std::chrono::seconds{30};
    /// For the destination to load all state, and for each answer of the hand-over.
    Duration handover_deadline = std::chrono::seconds{10};

    /// longest_farewell, less where `silence` is shorter.
    [[nodiscard]] Duration farewell_limit() const noexcept {
        return std::min(longest_farewell, silence);
    }
    /// How long a side waits in a hand-over before it goes on in another way.
    [[nodiscard]] Patience ownership_patience() const noexcept;
    /// `streams`, or what that comes to.
    [[nodiscard]] std::uint32_t bulk_channels() const noexcept;
    /// Names the first value that cannot be.
    [[nodiscard]] formats::Status check() const;
};

} // namespace wherry::migrate
