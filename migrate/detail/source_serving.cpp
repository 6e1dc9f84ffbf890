// SPDX-License-Identifier: Apache-2.0
// The source in post-copy: the pages that its guest went without, and connections that are lost.
#include "migrate/detail/source_flow.hpp"
#include "migrate/inquiry.hpp"

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// From the moment at which the guest runs at the destination: what it waits for first has the
/// wire, and both machines' processors, for itself.
constexpr Duration push_after = std::chrono::milliseconds{10};

} // namespace

Task<void> SourceSession::open_urgent() {
    urgent_ = std::make_unique<UrgentLane>(options_.threads, executor_);
    auto open = [this] {
        return open_channel(ChannelRole::urgent, 0);
    };
    auto opened = co_await urgent_->open(open);
    if (!opened) {
        co_return formats::fail(std::move(opened).error().during("opening the urgent channel"));
    }
    co_return opened;
}

/// What nobody has asked for yet. What is asked for overtakes it on the urgent channel.
Task<void> SourceSession::push() {
    auto rested = co_await transport::pause_for(push_after);
    if (!rested) {
        co_return rested;
    }
    progress_.begin_round(round_, formats::bytes_of(order_->left()));
    RoundPlan plan;
    plan.number = push_round_;
    plan.is_last = true;
    auto sent = co_await pages_->push(plan, *order_);
    if (!sent) {
        lose_pages(sent.error());
        co_return formats::fail(std::move(sent).error());
    }
    count_pages();
    progress_.end_round();
    co_return Status{};
}

/// In post-copy any channel that breaks takes the others with it: all are made again together.
void SourceSession::lose_pages(const formats::Error& error) {
    if (owner_->state() == SourceOwnerState::precopy) {
        interrupt(error);
        return;
    }
    if (pages_) {
        pages_->close();
    }
    if (urgent_) {
        urgent_->close();
    }
    if (recovery_) {
        recovery_->cancel();
    }
    if (leaves_pages_ && link_.is_up() && owner_->state() == SourceOwnerState::serving) {
        link_.drop();
        on_link_lost(error);
    }
}

Task<void> SourceSession::end_pages() {
    if (pages_) {
        pages_->close();
        co_await page_tasks_->end();
        auto settled = co_await pages_->settle();
        (void)settled;
        count_pages();
        pages_.reset();
        progress_.count_anew();
    }
    if (urgent_) {
        urgent_->close();
        auto settled = co_await urgent_->settle();
        (void)settled;
        urgent_.reset();
    }
    co_return Status{};
}

void SourceSession::reconnect() {
    helpers_.start(rejoin(), [this](const Status& joined) {
        if (!joined) {
            runner_.tell(event::Disconnected{joined.error().text()});
        }
    });
}

Task<void> SourceSession::end_recovery() {
    if (recovery_) {
        co_await recovery_->end(); // it has said what it failed with
        recovery_.reset();
    }
    co_return Status{};
}

/// A new control channel, which says first of which hand-over it is: this destination's process may
/// be another than before.
Task<void> SourceSession::rejoin() {
    co_await end_recovery();
    co_await end_pages();
    is_pushing_ = false;
    auto stream = co_await connector_(ChannelRole::inquiry, 0);
    if (!stream) {
        co_return formats::fail(std::move(stream).error());
    }
    Inquiry about;
    about.channel.migration_id = options_.migration_id;
    about.channel.epoch = options_.epoch;
    about.channel.ticket = ticket_;
    about.vm_id = options_.vm_id;
    about.attempt = attempt();
    auto channel =
        co_await open_inquiry(*std::move(stream), std::move(about), options_.policy.silence);
    if (!channel) {
        co_return formats::fail(std::move(channel).error());
    }
    co_await link_.adopt(*std::move(channel));
    link_.inbox().missing_pages_are_of(machine_.memory());
    patience_.silence();
    progress_.note("the connection was made again");
    runner_.tell(event::Connected{attempt()});
    co_return Status{};
}

/// The destination's word of what it still misses, after a connection was made again.
void SourceSession::on_missing(dirtylog::DirtySet missing) {
    if (!order_ || recovery_ || pages_ || owner_->state() != SourceOwnerState::serving) {
        return;
    }
    recovery_.emplace(executor_);
    recovery_->start(serve_again(std::move(missing)), [this](const Status& served) {
        if (!served && served.error().code() != ErrorCode::cancelled) {
            lose_pages(served.error());
        }
    });
}

Task<void> SourceSession::serve_again(dirtylog::DirtySet missing) {
    order_->restart(std::move(missing));
    auto opened = co_await open_urgent();
    if (!opened) {
        co_return opened;
    }
    urgent_->serve(
        machine_.memory(), *order_, limit_, urgent_counters_, [this](const formats::Error& error) {
            lose_pages(error);
        });
    opened = co_await open_bulk();
    if (!opened) {
        co_return opened;
    }
    push_round_ = 0;
    owner_moved();
    co_return Status{};
}

} // namespace wherry::migrate::detail
