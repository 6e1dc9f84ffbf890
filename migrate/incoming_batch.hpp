// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_run.hpp"
#include "migrate/page_placement.hpp"
#include "migrate/raw_pages_buffer.hpp"
#include "migrate/session_channel.hpp"
#include "vmm/guest_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace wherry::migrate {

/// One batch of pages as it comes in. Nothing lands whose checksum does not match. The buffers are
/// used again for the next batch. One thread.
class IncomingBatch {
public:
    /// `memory` outlives it.
    explicit IncomingBatch(const vmm::GuestMemory& memory);

    /// The payload of a page_batch frame. `in_turn` is asked about its round before anything else
    /// of it is taken. `protocol` where a page is no RAM of the VM, or a run crosses regions.
    transport::Task<void> read(
        SessionChannel& channel,
        const formats::FrameHeader& header,
        std::function<formats::Status(std::uint32_t round)> in_turn);
    formats::Status place(PagePlacement& placement) const;

    [[nodiscard]] formats::PageCount raw_pages() const noexcept { return raw_pages_; }
    [[nodiscard]] formats::PageCount zero_pages() const noexcept { return zero_pages_; }

private:
    transport::Task<void> read_payload(
        SessionChannel& channel,
        const formats::FrameHeader& header,
        std::function<formats::Status(std::uint32_t round)> in_turn);
    [[nodiscard]] formats::Status check_ram() const;

    const vmm::GuestMemory& memory_;
    std::vector<formats::PageRun> runs_;
    RawPagesBuffer raw_;
    std::vector<std::byte> table_;
    formats::PageCount raw_pages_, zero_pages_;
};

} // namespace wherry::migrate
