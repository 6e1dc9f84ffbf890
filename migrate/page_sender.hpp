// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "formats/page_run.hpp"
#include "migrate/bandwidth_limit.hpp"
#include "migrate/page_counters.hpp"
#include "migrate/page_supply.hpp"
#include "migrate/round_digest.hpp"
#include "migrate/send_window.hpp"
#include "migrate/session_channel.hpp"
#include "transport/notification.hpp"
#include "vmm/guest_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

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

/// Sends pages on one bulk channel. Everything happens on the channel's thread: each page is copied
/// once, and tested for zero, digested and encrypted where a core's cache still has it; only the
/// copy is looked at. Buffers are reused; nothing is allocated per page.
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
    enum class Kind : std::uint8_t { raw, zero, untold };

    formats::Status fill();
    formats::Status fill_from(PagePiece& piece);
    formats::PageCount add(formats::PageRange pages, Kind kind, std::size_t copied_at);
    transport::Task<void> wait_for_window(formats::Bytes length);
    transport::Task<void> write(Pace pace);
    transport::Task<void> mark_end(RoundPlan round);

    const vmm::GuestMemory& memory_;
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
    formats::PageBatchBuilder builder_{0};
    std::vector<std::byte> raw_; ///< of fixed size
    std::size_t used_ = 0;       ///< bytes of raw_
    formats::PageCount untold_;
    formats::StreamingDigest digest_;
};

} // namespace wherry::migrate
