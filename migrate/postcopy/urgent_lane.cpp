// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/urgent_lane.hpp"

#include "vmm/prompt_thread.hpp"

#include <utility>

#include <boost/asio/post.hpp>

namespace wherry::migrate {

using formats::Status;
using transport::Task;

UrgentLane::UrgentLane(ChannelThreads threads, const transport::Executor& session)
    : place_{threads, session},
      threads_{threads},
      tasks_{session},
      session_{session} {
    if (threads == ChannelThreads::own) {
        boost::asio::post(place_.executor(), vmm::answer_promptly);
    }
}

Task<void> UrgentLane::open_here(Opener opener) {
    auto channel = co_await opener();
    if (!channel) {
        co_return formats::fail(std::move(channel).error());
    }
    channel_ = *std::move(channel);
    co_return Status{};
}

Task<void> UrgentLane::open(Opener opener) {
    transport::TaskGroup opening{session_};
    opening.start_on(place_.executor(), open_here(std::move(opener)));
    co_return co_await opening.join();
}

Status UrgentLane::take(std::unique_ptr<SessionChannel> channel) {
    if (threads_ == ChannelThreads::own) {
        auto moved = channel->rebind(place_.executor());
        if (!moved) {
            return moved;
        }
    }
    channel_ = std::move(channel);
    return {};
}

void UrgentLane::start(Task<void> work, const OnFailure& on_failure) {
    tasks_.start_on(place_.executor(), std::move(work), [on_failure](const Status& ended) {
        if (!ended) {
            on_failure(ended.error());
        }
    });
}

void UrgentLane::serve(
    const vmm::GuestMemory& memory,
    PushOrder& order,
    BandwidthLimit& limit,
    PageCounters& counters,
    OnFailure on_failure) {
    server_.emplace(memory, order, limit, counters, *channel_);
    start(server_->run(), on_failure);
    tasks_.start_on(place_.executor(), channel_->keep_alive());
}

void UrgentLane::fetch(
    const vmm::GuestMemory& memory,
    FaultQueue& queue,
    PagePlacement& placement,
    PageCounters& counters,
    OnFailure on_failure) {
    client_.emplace(memory, queue, placement, counters, *channel_, place_.executor());
    start(client_->receive(), on_failure);
    start(client_->ask(), on_failure);
    tasks_.start_on(place_.executor(), channel_->keep_alive());
}

void UrgentLane::close() {
    tasks_.cancel();
    if (channel_) {
        boost::asio::post(place_.executor(), [channel = channel_] { channel->close(); });
    }
}

Task<void> UrgentLane::settle() {
    // What they ended with has been heard of, or is of no interest any more.
    co_return co_await tasks_.join();
}

} // namespace wherry::migrate
