// SPDX-License-Identifier: Apache-2.0
// A source's first phases: the control channel, the plan, the bulk channels.
#include "migrate/detail/source_flow.hpp"
#include "migrate/plan.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// Often enough for a line that people watch.
constexpr Duration count_every = std::chrono::milliseconds{100};

} // namespace

Task<void> SourceSession::connect() {
    enter(SourceState::connect);
    auto checked = options_.policy.check();
    if (!checked) {
        co_return checked;
    }
    auto consulted = co_await consult_arbiter();
    if (!consulted) {
        co_return consulted;
    }
    auto channel = co_await open_channel(ChannelRole::control, 0);
    if (!channel) {
        co_return formats::fail(std::move(channel).error());
    }
    auto adopted = co_await link_.adopt(*std::move(channel));
    if (adopted) {
        runner_.tell(event::Connected{attempt()});
    }
    co_return adopted;
}

/// One that is away, or has another's record of the VM, would be found out when the guest stands
/// still.
Task<void> SourceSession::consult_arbiter() {
    if (!is_shared_arbiter(options_.arbiter)) {
        co_return Status{};
    }
    auto ask = [this] {
        return ask_arbiter(
            {.arbiter = options_.arbiter, .wanted = std::nullopt, .asker = Asker::source});
    };
    auto says = co_await on_worker(ask);
    if (!says) {
        co_return formats::fail(std::move(says).error().during("asking the arbiter"));
    }
    const ArbiterRecord offer{RecordKind::offered, next(options_.epoch)};
    if (!may_follow(*says, offer, Asker::source)) {
        co_return formats::fail(
            ErrorCode::wrong_state,
            fmt::format(
                "arbiter {} has {}({}) of this VM, which is at epoch {} here: it has changed hands "
                "since, or what is here is an old copy; look for it on the other hosts",
                options_.arbiter,
                name_of((*says)->kind),
                static_cast<std::uint64_t>((*says)->epoch),
                static_cast<std::uint64_t>(options_.epoch)));
    }
    co_return Status{};
}

Task<std::unique_ptr<SessionChannel>>
SourceSession::open_channel(ChannelRole role, std::uint32_t index) {
    auto stream = co_await connector_(role, index);
    if (!stream) {
        co_return formats::fail(std::move(stream).error());
    }
    auto channel = std::make_unique<SessionChannel>(
        *std::move(stream), formats::Side::source, options_.policy.silence);
    ChannelName name;
    name.migration_id = options_.migration_id;
    name.epoch = options_.epoch;
    name.role = role;
    name.index = index;
    name.ticket = ticket_;
    auto opened = co_await channel->open_as_source(name);
    if (!opened) {
        channel->close();
        co_return formats::fail(std::move(opened).error());
    }
    co_return std::move(channel);
}

Task<void> SourceSession::plan() {
    enter(SourceState::plan);
    auto look = [this] {
        return machine_.memory().populated();
    };
    auto populated = co_await on_worker(look);
    if (!populated) {
        co_return formats::fail(std::move(populated).error());
    }
    Plan plan = plan_for(machine_);
    plan.vm_name = options_.vm_name;
    plan.vm_id = options_.vm_id;
    plan.arbiter = options_.arbiter;
    plan.downtime_goal = options_.policy.downtime;
    for (const formats::PageRange range : *populated) {
        plan.populated += formats::bytes_of(range.count());
    }
    Control message;
    to_proto(plan, *message.mutable_plan());
    message.mutable_plan()->set_bulk_channels(options_.policy.bulk_channels());
    auto sent = co_await link_.channel().send(message);
    if (!sent) {
        co_return sent;
    }
    auto answer = co_await expect(Control::kPlanAnswer, options_.policy.plan_deadline);
    if (!answer) {
        co_return formats::fail(std::move(answer).error());
    }
    co_return co_await take_answer(answer->plan_answer());
}

Task<void> SourceSession::take_answer(const formats::proto::PlanAnswer& answer) {
    auto ticket = Ticket::from_wire(answer.ticket());
    if (!ticket) {
        co_return formats::fail(std::move(ticket).error());
    }
    if (!*ticket || answer.bulk_channels() < 1 ||
        answer.bulk_channels() > options_.policy.bulk_channels()) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} answered the plan without a ticket, or with {} bulk channels where 1 to {} "
                "were wished for",
                link_.channel().peer(),
                answer.bulk_channels(),
                options_.policy.bulk_channels()));
    }
    auto verdict = from_proto(answer);
    postcopy_obstacle_ = std::move(verdict.postcopy_obstacle);
    const bool may_leave_pages = postcopy_obstacle_->empty();
    if (!may_leave_pages && options_.policy.mode == Mode::hybrid) {
        co_return formats::fail(
            ErrorCode::unsupported,
            fmt::format("a hybrid migration is not possible: {}", *postcopy_obstacle_));
    }
    if (!may_leave_pages && options_.policy.on_stall == OnStall::hybrid) {
        co_return formats::fail(
            ErrorCode::unsupported,
            fmt::format(
                "'--on-stall hybrid' is not possible: {}; --on-stall throttle is",
                *postcopy_obstacle_));
    }
    if (!options_.policy.on_stall) {
        options_.policy.on_stall =
            default_on_stall(may_leave_pages ? HybridSupport::both_sides : HybridSupport::none);
        rounds_.adopt(options_.policy);
    }
    ticket_ = **ticket;
    streams_ = answer.bulk_channels();
    progress_.planned(std::move(verdict.findings));
    co_return Status{};
}

Task<void> SourceSession::open_bulk() {
    pages_.emplace(machine_.memory(), limit_, executor_, options_.threads);
    page_tasks_.emplace(executor_);
    auto open = [this](ChannelRole role, std::uint32_t index) {
        return open_channel(role, index);
    };
    auto on_failure = [this](const formats::Error& error) {
        lose_pages(error);
    };
    auto opened = co_await pages_->open(streams_, open, on_failure);
    if (!opened) {
        co_return opened;
    }
    progress_.set_streams(streams_);
    if (!is_counting_) {
        is_counting_ = true;
        helpers_.start(watch_pages());
    }
    co_return opened;
}

/// What the channels' threads count, as progress.
Task<void> SourceSession::watch_pages() {
    while (true) {
        auto waited = co_await transport::pause_for(count_every);
        if (!waited) {
            co_return waited;
        }
        count_pages();
    }
}

void SourceSession::count_pages() {
    if (pages_) {
        progress_.count(pages_->counters().sums());
    }
}

} // namespace wherry::migrate::detail
