// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_run.hpp"
#include "migrate/page_counters.hpp"
#include "migrate/round_digest.hpp"
#include "migrate/session_channel.hpp"
#include "vmm/guest_memory.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace wherry::migrate {

/// The round that the bulk channels may be in. Written by the session's thread when all of them
/// have ended the one before, so that no page overtakes an older one of its own.
using OpenRound = std::atomic<std::uint32_t>;

/// Puts the pages of one bulk channel in place. Everything happens on the channel's thread: while
/// it decrypts a batch that is under way, those of other channels are placed by theirs. Nothing
/// lands whose checksum does not match.
///
/// Pages are placed through the file behind guest memory, not through its mapping: writing whole
/// pages there spares the kernel clearing them and taking a fault for each, which costs as much as
/// everything else a destination does; and what the host cannot provide comes back as an error
/// instead of a signal.
class PageReceiver {
public:
    /// Both are called on the channel's thread. `on_placed` gets the sum since the channel was
    /// opened, every placed_step.
    struct Callbacks {
        std::function<void(formats::Bytes)> on_placed;
        std::function<void(std::uint32_t round, bool is_last)> on_round_end;
    };
    /// All outlive the receiver. Nothing of the guest has run.
    PageReceiver(
        vmm::GuestMemory& memory,
        SessionChannel& channel,
        PageCounters& counters,
        const OpenRound& open_round,
        Callbacks callbacks);

    /// Until the marker of the last round. `corrupted` where something other arrived than was sent.
    transport::Task<void> run();

private:
    transport::Task<void> take_batch(const formats::FrameHeader& header);
    transport::Task<void> take_message(const formats::FrameHeader& header);
    transport::Task<void> read_payload(const formats::FrameHeader& header);
    [[nodiscard]] formats::Status end_round(const formats::proto::RoundEnd& said);
    [[nodiscard]] formats::Status check_round(std::string_view what, std::uint32_t round) const;
    [[nodiscard]] formats::Status check_ram() const;
    formats::Status place();
    formats::Status place_raw(formats::PageRange pages, std::span<const std::byte> bytes);

    vmm::GuestMemory& memory_;
    SessionChannel& channel_;
    PageCounters& counters_;
    const OpenRound& open_round_;
    Callbacks callbacks_;

    std::vector<formats::PageRun> runs_; ///< of the batch in hand
    std::vector<std::byte> raw_;         ///< of fixed size
    std::vector<std::byte> table_;

    std::uint32_t round_ = 0;
    bool is_complete_ = false;
    std::uint64_t batch_count_ = 0;
    formats::PageCount raw_pages_, zero_pages_;
    RoundDigest round_digest_;
    formats::Bytes placed_, told_;
};

} // namespace wherry::migrate
