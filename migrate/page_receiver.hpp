// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "formats/page_run.hpp"
#include "migrate/progress.hpp"
#include "migrate/round_digest.hpp"
#include "migrate/session_channel.hpp"
#include "transport/task_group.hpp"
#include "vmm/guest_memory.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace wherry::migrate {

/// Puts arriving batches in place. While one batch is being received and decrypted on the session's
/// thread, a worker places the one before. Nothing lands whose checksum does not match.
///
/// Pages are placed through the file behind guest memory, not through its mapping: writing whole
/// pages there spares the kernel clearing them and taking a fault for each, which costs as much as
/// everything else a destination does; and what the host cannot provide comes back as an error
/// instead of a signal.
class PageReceiver {
public:
    /// All outlive the receiver. Nothing of the guest has run.
    PageReceiver(
        vmm::GuestMemory& memory,
        SessionChannel& channel,
        Progress& progress,
        transport::Executor worker);

    /// The payload of one page batch.
    transport::Task<void> take(const formats::FrameHeader& header);
    /// At the end of a round: everything is in place. `corrupted` where something other arrived
    /// than was sent. A round that ended is never begun again.
    transport::Task<void> end_round(const formats::proto::RoundEnd& said);
    /// Waits for the worker, whatever became of it. Before the memory goes away.
    transport::Task<void> settle();

private:
    struct Batch {
        std::vector<formats::PageRun> runs;
        std::vector<std::byte> raw; ///< of fixed size
        formats::PageCount raw_pages, zero_pages;
    };
    transport::Task<void> read_payload(const formats::FrameHeader& header, Batch& batch);
    transport::Task<void> place_on_worker(const Batch& batch);
    [[nodiscard]] formats::Status check_ram(const Batch& batch) const;
    formats::Status place(const Batch& batch);
    formats::Status place_raw(formats::PageRange pages, std::span<const std::byte> bytes);

    vmm::GuestMemory& memory_;
    SessionChannel& channel_;
    Progress& progress_;
    transport::Executor worker_;
    std::array<Batch, 2> batches_;
    std::size_t current_ = 0;
    std::optional<transport::TaskGroup> placing_; ///< the batch that is not current
    std::uint32_t round_ = 0;
    std::uint64_t batch_count_ = 0;
    formats::PageCount raw_pages_, zero_pages_;
    RoundDigest round_digest_;
    std::vector<std::byte> table_;
};

} // namespace wherry::migrate
