// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/incoming_batch.hpp"
#include "migrate/page_counters.hpp"
#include "migrate/page_placement.hpp"
#include "migrate/round_digest.hpp"
#include "migrate/session_channel.hpp"
#include "vmm/guest_memory.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

namespace wherry::migrate {

/// The round that the bulk channels may be in. Written by the session's thread when all of them
/// have ended the one before, so that no page overtakes an older one of its own.
using OpenRound = std::atomic<std::uint32_t>;

/// Where the pages of the round go. Written by the session's thread before the round is opened.
using OpenPlacement = std::atomic<PagePlacement*>;

/// Puts the pages of one bulk channel in place. Everything happens on the channel's thread: while
/// it decrypts a batch that is under way, those of other channels are placed by theirs.
class PageReceiver {
public:
    /// Both are called on the channel's thread. `on_placed` gets the sum since the channel was
    /// opened, every placed_step.
    struct Callbacks {
        std::function<void(formats::Bytes)> on_placed;
        std::function<void(std::uint32_t round, bool is_last)> on_round_end;
    };
    /// All outlive the receiver.
    PageReceiver(
        const vmm::GuestMemory& memory,
        const OpenPlacement& placement,
        SessionChannel& channel,
        PageCounters& counters,
        const OpenRound& open_round,
        Callbacks callbacks);

    /// Until the marker of the last round: of pre-copy, and called again, of what is pushed
    /// afterwards. `corrupted` where something other arrived than was sent.
    transport::Task<void> run();

private:
    transport::Task<void> take_batch(const formats::FrameHeader& header);
    transport::Task<void> take_message(const formats::FrameHeader& header);
    [[nodiscard]] formats::Status end_round(const formats::proto::RoundEnd& said);
    [[nodiscard]] formats::Status check_round(std::string_view what, std::uint32_t round) const;

    const OpenPlacement& placement_;
    SessionChannel& channel_;
    PageCounters& counters_;
    const OpenRound& open_round_;
    Callbacks callbacks_;

    IncomingBatch batch_;

    std::uint32_t round_ = 0;
    bool is_complete_ = false;
    std::uint64_t batch_count_ = 0;
    formats::PageCount raw_pages_, zero_pages_;
    RoundDigest round_digest_;
    formats::Bytes placed_, told_;
};

} // namespace wherry::migrate
