// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "formats/page_run.hpp"
#include "migrate/page_supply.hpp"
#include "migrate/raw_pages_buffer.hpp"
#include "migrate/session_channel.hpp"
#include "vmm/guest_memory.hpp"

#include <cstddef>
#include <cstdint>

namespace wherry::migrate {

/// One batch of pages on its way out. Each page is copied once, and tested for zero, digested and
/// encrypted where a core's cache still has it; only the copy is looked at. The buffers are used
/// again for the next batch. One thread.
class OutgoingBatch {
public:
    /// `memory` outlives it.
    explicit OutgoingBatch(const vmm::GuestMemory& memory);

    /// Empty, and of this round from now on.
    void begin(std::uint32_t round);
    /// No more pages than this fit, whatever they hold.
    [[nodiscard]] formats::PageCount room() const;
    /// Takes all of `piece`, which is not larger than room(), and settles its `told_raw`.
    formats::Status add(PagePiece& piece);

    [[nodiscard]] bool is_empty() const noexcept { return builder_.is_empty(); }
    [[nodiscard]] formats::PageCount raw_pages() const noexcept { return builder_.raw_pages(); }
    [[nodiscard]] formats::PageCount zero_pages() const noexcept { return builder_.zero_pages(); }
    /// Zero, and nothing else there before: left out.
    [[nodiscard]] formats::PageCount untold() const noexcept { return untold_; }
    /// Of its frame with the header.
    [[nodiscard]] formats::Bytes frame_length() const noexcept;

    /// Of the payload, which is complete with this; not of an empty batch.
    formats::Digest seal();
    /// The sealed batch.
    transport::Task<void> send(SessionChannel& channel);

private:
    enum class Kind : std::uint8_t { raw, zero, untold };
    void add(formats::PageRange pages, Kind kind, std::size_t copied_at);

    const vmm::GuestMemory& memory_;
    formats::PageBatchBuilder builder_{0};
    RawPagesBuffer raw_;
    std::size_t used_ = 0; ///< bytes of raw_
    formats::PageCount untold_;
    formats::StreamingDigest digest_;
    std::span<const std::byte> head_; ///< once sealed
};

} // namespace wherry::migrate
