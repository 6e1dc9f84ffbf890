// SPDX-License-Identifier: Apache-2.0
// The destination in post-copy: the pages that are missing, and connections that are lost.
#include "migrate/detail/destination_flow.hpp"

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// A wait is begun again after that.
constexpr Duration long_wait = std::chrono::hours{24};

} // namespace

/// Before the state is restored: what restores it may touch a page that is missing, and waits for
/// it then as the guest would. The source answers from the moment at which it named them.
Task<void> DestinationSession::arm() {
    auto taken = co_await take_urgent();
    if (!taken) {
        co_return taken;
    }
    auto work = [this]() -> Status {
        auto armed = ArrivingMemory::arm(
            *machine_,
            *missing_,
            vmm::MemoryBefore::used,
            [this] { urgent_wake_.ring(); },
            [this] { boost::asio::post(executor_, [this] { on_complete(); }); });
        if (!armed) {
            return formats::fail(std::move(armed).error());
        }
        memory_ = *std::move(armed);
        return {};
    };
    auto armed = co_await on_worker(work);
    if (!armed) {
        co_return armed;
    }
    fetch_urgent();
    if (memory_->missing_count() == formats::PageCount{0}) {
        on_complete();
    }
    co_return Status{};
}

Task<void> DestinationSession::take_urgent() {
    auto opened = co_await next_channel(ChannelRole::urgent, options_.policy.plan_deadline);
    if (!opened) {
        co_return formats::fail(std::move(opened).error());
    }
    urgent_ = std::make_unique<UrgentLane>(options_.threads, executor_);
    co_return urgent_->take(std::move(opened->channel));
}

void DestinationSession::fetch_urgent() {
    urgent_->fetch(
        machine_->memory(),
        memory_->queue(),
        memory_->placement(),
        urgent_counters_,
        [this](const formats::Error& error) { lose_pages(error); });
    urgent_wake_.point_at(urgent_.get());
}

void DestinationSession::take_pushed() {
    pages_->start_push(memory_->placement(), [this](const formats::Error& error) {
        if (memory_->missing_count() > formats::PageCount{0}) {
            lose_pages(error);
        }
    });
}

/// The last page is there. That what is under way may still place some again does no harm.
void DestinationSession::on_complete() {
    runner_.tell(event::LastPagePlaced{});
}

/// In post-copy any channel that breaks takes the others with it: all are made again together.
void DestinationSession::lose_pages(const formats::Error& error) {
    if (!is_offered_) {
        interrupt(error);
        return;
    }
    if (pages_) {
        pages_->close();
    }
    urgent_wake_.point_at(nullptr);
    if (urgent_) {
        urgent_->close();
    }
    if (recovery_) {
        recovery_->cancel();
    }
    if (is_faulting_ && link_.is_up() && owner_->state() == DestinationOwnerState::faulting) {
        link_.drop();
        on_link_lost(error);
    }
}

Task<void> DestinationSession::wait_for_return() {
    while (true) {
        auto opened = co_await next_channel(ChannelRole::inquiry, long_wait);
        if (!opened && opened.error().code() == ErrorCode::timed_out) {
            continue;
        }
        if (!opened) {
            co_return formats::fail(std::move(opened).error());
        }
        co_await end_recovery();
        intake_->forget_waiting();
        co_await link_.adopt(std::move(opened->channel));
        auto said = co_await expect(Control::kRejoin, options_.policy.silence);
        if (!said) {
            link_.drop(); // it comes once more
            auto alive = co_await transport::check_cancelled();
            if (!alive) {
                co_return alive;
            }
            continue;
        }
        patience_.silence();
        Attempt attempt;
        attempt.arbiter = said->rejoin().arbiter();
        attempt.migration_id = arrival_.migration_id;
        attempt.pages_missing = said->rejoin().pages_are_missing();
        source_has_memory_ = !said->rejoin().memory_is_lost();
        progress_.note("the connection was made again");
        runner_.tell(event::Connected{attempt});
        co_return Status{};
    }
}

Task<void> DestinationSession::end_recovery() {
    if (recovery_) {
        co_await recovery_->end(); // it has said what it failed with
        recovery_.reset();
    }
    co_return Status{};
}

/// After a lost connection, once the source knows what is missing.
Task<void> DestinationSession::take_channels_again() {
    co_await end_pages();
    pages_.emplace(machine_->memory(), streams_, executor_, options_.threads);
    page_tasks_.emplace(executor_);
    auto taken = co_await take_urgent();
    if (!taken) {
        co_return taken;
    }
    fetch_urgent();
    taken = co_await gather();
    if (!taken) {
        co_return taken;
    }
    page_tasks_->start(pages_->tell_placed(link_.channel()));
    take_pushed();
    co_return Status{};
}

/// Nothing is placed any more when this returns.
Task<void> DestinationSession::end_pages() {
    urgent_wake_.point_at(nullptr);
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

} // namespace wherry::migrate::detail
