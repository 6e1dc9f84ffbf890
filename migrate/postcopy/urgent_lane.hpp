// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/channel_place.hpp"
#include "migrate/postcopy/urgent_pages.hpp"
#include "transport/task_group.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace wherry::migrate {

/// The urgent channel of one side, on a thread of its own. Members are called on the session's.
class UrgentLane {
public:
    using OnFailure = std::function<void(const formats::Error&)>;
    using Opener = std::function<transport::Task<std::unique_ptr<SessionChannel>>()>;

    UrgentLane(ChannelThreads threads, const transport::Executor& session);
    UrgentLane(const UrgentLane&) = delete;
    UrgentLane& operator=(const UrgentLane&) = delete;
    ~UrgentLane() { place_.stop(); }

    /// Source: opens the channel on the lane's thread.
    transport::Task<void> open(Opener opener);
    /// Destination: moves a channel that has come to the lane's thread.
    formats::Status take(std::unique_ptr<SessionChannel> channel);

    // Once there is a channel; what is given outlives settle(). `on_failure` hears, on the
    // session's thread, of its end.
    void serve(
        const vmm::GuestMemory& memory,
        PushOrder& order,
        BandwidthLimit& limit,
        PageCounters& counters,
        OnFailure on_failure);
    void fetch(
        const vmm::GuestMemory& memory,
        FaultQueue& queue,
        PagePlacement& placement,
        PageCounters& counters,
        OnFailure on_failure);
    /// Any thread, once fetch() was called: the queue has something.
    void wake() { client_->wake(); }

    /// Ends the channel at once.
    void close();
    /// Once closed: nothing runs any more when this ends.
    transport::Task<void> settle();

private:
    transport::Task<void> open_here(Opener opener);
    void start(transport::Task<void> work, const OnFailure& on_failure);

    ChannelPlace place_;
    ChannelThreads threads_;
    /// Shared with a call on its way to the lane's thread.
    std::shared_ptr<SessionChannel> channel_;
    std::optional<UrgentServer> server_;
    std::optional<UrgentClient> client_;
    transport::TaskGroup tasks_;
    transport::Executor session_;
};

/// Rings at the lane there is now, if there is one. Any thread.
class UrgentBell {
public:
    void ring() {
        const std::lock_guard held{mutex_};
        if (lane_ != nullptr) {
            lane_->wake();
        }
    }
    /// Before a lane goes away: at none.
    void point_at(UrgentLane* lane) {
        const std::lock_guard held{mutex_};
        lane_ = lane;
    }

private:
    std::mutex mutex_;
    UrgentLane* lane_ = nullptr;
};

} // namespace wherry::migrate
