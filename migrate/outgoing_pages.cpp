// SPDX-License-Identifier: Apache-2.0
#include "migrate/outgoing_pages.hpp"

#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::Status;
using transport::Task;

/// One bulk channel and the place where it works.
struct OutgoingPages::Lane {
    Lane(ChannelThreads threads, const transport::Executor& session) : place{threads, session} {}

    ChannelPlace place;
    // The place's:
    std::unique_ptr<SessionChannel> channel;
    std::optional<PageSender> sender;
};

OutgoingPages::OutgoingPages(
    const vmm::GuestMemory& memory,
    BandwidthLimit& limit,
    transport::Executor session,
    ChannelThreads threads)
    : memory_{memory},
      limit_{limit},
      session_{std::move(session)},
      threads_{threads},
      supply_{memory},
      helpers_{session_} {}

OutgoingPages::~OutgoingPages() {
    for (const auto& lane : lanes_) {
        lane->place.stop();
    }
}

Task<void> OutgoingPages::open_lane(Lane& lane, std::uint32_t index, const Opener& opener) {
    auto channel = co_await opener(ChannelRole::bulk, index);
    if (!channel) {
        co_return formats::fail(std::move(channel).error());
    }
    lane.channel = *std::move(channel);
    lane.sender.emplace(memory_, supply_, limit_, counters_, *lane.channel, lane.place.executor());
    co_return Status{};
}

Task<void> OutgoingPages::open(std::uint32_t count, Opener opener, OnFailure on_failure) {
    transport::TaskGroup opening{session_, transport::TaskGroup::OnFailure::cancel_siblings};
    for (std::uint32_t index = 0; index < count; ++index) {
        auto& lane = *lanes_.emplace_back(std::make_shared<Lane>(threads_, session_));
        opening.start_on(lane.place.executor(), open_lane(lane, index, opener));
    }
    auto opened = co_await opening.join();
    if (!opened) {
        co_return opened;
    }
    const auto report = [on_failure = std::move(on_failure)](const Status& ended) {
        if (!ended) {
            on_failure(ended.error());
        }
    };
    for (const auto& lane : lanes_) {
        helpers_.start_on(lane->place.executor(), listen(*lane), report);
        helpers_.start_on(lane->place.executor(), lane->channel->keep_alive());
    }
    is_open_ = true;
    co_return opened;
}

/// A destination says nothing on a bulk channel but that it is there; or why it ends.
Task<void> OutgoingPages::listen(Lane& lane) {
    while (true) {
        auto message = co_await lane.channel->expect(Control::kKeepAlive);
        if (!message) {
            co_return formats::fail(std::move(message).error());
        }
    }
}

Task<void> OutgoingPages::send_part(Lane& lane, RoundPlan round, RoundTotals& totals) {
    auto sent = co_await lane.sender->send(round);
    if (!sent) {
        co_return formats::fail(std::move(sent).error());
    }
    totals = *sent;
    co_return Status{};
}

Task<RoundTotals> OutgoingPages::send(RoundPlan round, const dirtylog::DirtySet& pages) {
    supply_.begin_round(pages, count());
    co_return co_await send_parts(round);
}

Task<RoundTotals> OutgoingPages::push(RoundPlan round, PushOrder& order) {
    supply_.begin_push(order);
    co_return co_await send_parts(round);
}

Task<RoundTotals> OutgoingPages::send_parts(RoundPlan round) {
    transport::TaskGroup sending{session_, transport::TaskGroup::OnFailure::cancel_siblings};
    std::vector<RoundTotals> parts(lanes_.size());
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
        Lane& lane = *lanes_[i];
        sending.start_on(lane.place.executor(), send_part(lane, round, parts[i]));
    }
    auto sent = co_await sending.join();
    if (!sent) {
        co_return formats::fail(std::move(sent).error());
    }
    RoundTotals totals;
    for (const RoundTotals& part : parts) {
        totals += part;
    }
    // They waited at the same time.
    totals.waited /= static_cast<Duration::rep>(lanes_.size());
    co_return totals;
}

Status OutgoingPages::placed(const formats::proto::Placed& said) {
    if (!is_open_ || said.index() >= lanes_.size()) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format("the destination speaks of pages on bulk channel {}", said.index()));
    }
    const auto& lane = lanes_[said.index()];
    boost::asio::post(
        lane->place.executor(), [weak = std::weak_ptr{lane}, sum = formats::Bytes{said.bytes()}] {
            const auto there = weak.lock();
            if (there && there->sender) {
                there->sender->placed(sum);
            }
        });
    return {};
}

void OutgoingPages::close() {
    if (std::exchange(is_closed_, true)) {
        return;
    }
    helpers_.cancel();
    for (const auto& lane : lanes_) {
        boost::asio::post(lane->place.executor(), [weak = std::weak_ptr{lane}] {
            const auto there = weak.lock();
            if (there && there->channel) {
                there->channel->close();
            }
        });
    }
}

Task<void> OutgoingPages::settle() {
    // What they ended with has been heard of, or is of no interest any more.
    co_return co_await helpers_.join();
}

} // namespace wherry::migrate
