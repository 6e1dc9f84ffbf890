// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/bandwidth_limit.hpp"
#include "migrate/incoming_batch.hpp"
#include "migrate/outgoing_batch.hpp"
#include "migrate/page_counters.hpp"
#include "migrate/postcopy/fault_queue.hpp"
#include "migrate/postcopy/push_order.hpp"
#include "migrate/session_channel.hpp"
#include "transport/notification.hpp"

#include <atomic>
#include <cstddef>
#include <memory>

namespace wherry::migrate {

/// The pages that somebody on the destination waits for travel on a channel of their own, so that
/// none of them stands behind what is pushed.
inline constexpr std::size_t runs_per_request = 64;
inline constexpr formats::PageCount pages_per_requested_run{512};
/// Of the batches on it, in place of a round.
inline constexpr std::uint32_t urgent_round = UINT32_MAX;

/// The source's end. A request is answered at once, whether its pages were pushed before or not:
/// those may stand in a queue. Everything on the channel's thread.
class UrgentServer {
public:
    /// All outlive it. Answers do not wait for `limit`, but what is pushed waits for them.
    UrgentServer(
        const vmm::GuestMemory& memory,
        PushOrder& order,
        BandwidthLimit& limit,
        PageCounters& counters,
        SessionChannel& channel);

    /// Until the channel ends or fails.
    transport::Task<void> run();

private:
    transport::Task<void> answer(const formats::proto::PageRequest& request);
    transport::Task<void> answer(formats::PageRange pages);
    transport::Task<void> flush();

    const vmm::GuestMemory& memory_;
    PushOrder& order_;
    BandwidthLimit& limit_;
    PageCounters& counters_;
    SessionChannel& channel_;
    OutgoingBatch batch_;
};

/// The destination's end. Everything on the channel's thread but for wake().
class UrgentClient {
public:
    /// All outlive it, but for calls of wake() under way.
    UrgentClient(
        const vmm::GuestMemory& memory,
        FaultQueue& queue,
        PagePlacement& placement,
        PageCounters& counters,
        SessionChannel& channel,
        const transport::Executor& executor);

    /// Asks for what somebody waits for, as faults come. Until cancelled or the channel fails.
    transport::Task<void> ask();
    /// Places what comes. Until the channel ends or fails.
    transport::Task<void> receive();
    /// Any thread: the queue has something. Cheap when ask() is about to look anyway.
    void wake();

private:
    /// Shared with wake-ups on their way to the channel's thread.
    struct Bell {
        explicit Bell(const transport::Executor& on) : executor{on}, news{on} {}
        transport::Executor executor;
        transport::Notification news;
        std::atomic<bool> is_rung = false;
    };

    FaultQueue& queue_;
    PagePlacement& placement_;
    PageCounters& counters_;
    SessionChannel& channel_;
    IncomingBatch batch_;
    std::shared_ptr<Bell> bell_;
};

} // namespace wherry::migrate
