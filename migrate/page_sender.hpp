// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "migrate/bandwidth_limit.hpp"
#include "migrate/outgoing_batch.hpp"
#include "migrate/page_counters.hpp"
#include "migrate/page_supply.hpp"
#include "migrate/round_digest.hpp"
#include "migrate/send_window.hpp"
#include "migrate/session_channel.hpp"
#include "transport/notification.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>
#include <optional>

namespace wherry::migrate {

/// Whether the bandwidth limit holds: it does not while the guest stands still.
enum class Pace : std::uint8_t { limited, full };

struct RoundPlan {
    std::uint32_t number = 0;
    Pace pace = Pace::limited;
    bool is_last = false;
};

/// What one round came to, on one channel or on all.
struct RoundTotals {
    std::uint64_t batches = 0;
    formats::PageCount raw_pages;
    formats::PageCount zero_pages; ///< told to the destination
    formats::PageCount untold;     ///< zero, and never anything else there
    formats::Bytes wire_bytes;
    formats::Digest digest{}; ///< of one channel
    Duration waited{};        ///< for the bandwidth limit

    /// But for the digest.
    RoundTotals& operator+=(const RoundTotals& other) noexcept;
};

/// Sends pages on one bulk channel. Everything happens on the channel's thread; nothing is
/// allocated per page.
class PageSender {
public:
    /// All outlive the sender.
    PageSender(
        const vmm::GuestMemory& memory,
        PageSupply& supply,
        BandwidthLimit& limit,
        PageCounters& counters,
        SessionChannel& channel,
        const transport::Executor& executor);

    /// Sends what it gets of the round until that is handed out, and the channel's marker.
    transport::Task<RoundTotals> send(RoundPlan round);
    /// The destination's word of what is in place, since the channel was opened.
    void placed(formats::Bytes sum);

private:
    formats::Status fill();
    transport::Task<void> wait_for_window(formats::Bytes length);
    transport::Task<void> write(Pace pace);
    transport::Task<void> mark_end(RoundPlan round);

    PageSupply& supply_;
    BandwidthLimit& limit_;
    PageCounters& counters_;
    SessionChannel& channel_;

    SendWindow window_;
    std::optional<formats::Error> false_word_; ///< of the destination, about what is in place
    transport::Notification placed_;

    RoundTotals totals_;
    RoundDigest round_digest_;
    bool is_handed_out_ = false;
    OutgoingBatch batch_;
};

} // namespace wherry::migrate
