// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/page_digest.hpp"
#include "formats/page_run.hpp"
#include "migrate/progress.hpp"
#include "migrate/round_digest.hpp"
#include "migrate/session_channel.hpp"
#include "transport/rate_limiter.hpp"
#include "vmm/guest_memory.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace wherry::migrate {

/// Whether the bandwidth limit holds: it does not while the guest stands still.
enum class Pace : std::uint8_t { limited, full };

/// What one round came to.
struct RoundTotals {
    std::uint64_t batches = 0;
    formats::PageCount raw_pages;
    formats::PageCount zero_pages; ///< told to the destination
    formats::PageCount untold;     ///< zero, and never anything else there
    formats::Bytes wire_bytes;
    formats::Digest digest{};
    Duration waited{}; ///< for the bandwidth limit
};

/// Sends sets of pages. While one batch is being encrypted and written on the session's thread, a
/// worker copies, tests and digests the next: each page is copied once, and only the copy is looked
/// at. Buffers are reused; nothing is allocated per page.
///
/// The destination's RAM starts as zero, so a zero page is told only if it was sent raw before.
class PageSender {
public:
    /// All outlive the sender.
    PageSender(
        const vmm::GuestMemory& memory,
        SessionChannel& channel,
        Progress& progress,
        transport::RateLimiter& limiter,
        transport::Executor worker);

    /// `pages` stays as it is until this ends. When it ends, the worker is idle.
    transport::Task<RoundTotals>
    send(std::uint32_t round, const dirtylog::DirtySet& pages, Pace pace);

private:
    struct Batch {
        formats::PageBatchBuilder builder{0};
        std::vector<std::byte> raw; ///< of fixed size
        std::size_t used = 0;       ///< bytes of `raw`
        formats::PageCount untold;
        std::span<const std::byte> head;
        formats::Digest digest{};
        bool is_last = false;
    };

    // On the worker.
    formats::Status fill(Batch& batch);
    formats::Status fill_from(Batch& batch, formats::PageRange chunk);
    enum class Kind : std::uint8_t { raw, zero, untold };
    [[nodiscard]] Kind kind_of(std::span<const std::byte> page, formats::Gfn frame) const;
    formats::PageCount
    add(Batch& batch, formats::PageRange pages, Kind kind, std::size_t copied_at);

    // On the session's thread.
    transport::Task<void> prepare(Batch& batch);
    transport::Task<void> write(Batch& batch, Pace pace, RoundTotals& totals);

    const vmm::GuestMemory& memory_;
    SessionChannel& channel_;
    Progress& progress_;
    transport::RateLimiter& limiter_;
    transport::Executor worker_;

    // The worker's while it is busy.
    const dirtylog::DirtySet* pages_ = nullptr;
    formats::Gfn cursor_;
    std::uint32_t round_ = 0;
    dirtylog::DirtySet told_raw_; ///< may be other than zero on the destination
    formats::StreamingDigest batch_digest_;

    std::array<Batch, 2> batches_;
    RoundDigest round_digest_;
};

} // namespace wherry::migrate
