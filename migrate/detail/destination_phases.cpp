// SPDX-License-Identifier: Apache-2.0
// The phases of a destination in order: what it does while all is well.
#include "migrate/detail/destination_flow.hpp"
#include "migrate/detail/phase_order.hpp"
#include "migrate/host_memory.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// Between two pages, while the source is there. Longer than any round trip through its machine.
constexpr Duration patience = std::chrono::minutes{2};
/// Often enough for a line that people watch.
constexpr Duration count_every = std::chrono::milliseconds{100};

} // namespace

Task<void> DestinationSession::phases() {
    using Phase = Task<void> (DestinationSession::*)();
    constexpr std::array<Phase, 6> phases{
        &DestinationSession::listen,
        &DestinationSession::plan,
        &DestinationSession::gather,
        &DestinationSession::fill,
        &DestinationSession::take_offer,
        &DestinationSession::load};
    co_return co_await detail::in_order(*this, phases);
}

/// The channel is open: the reception has seen to that.
Task<void> DestinationSession::listen() {
    auto checked = options_.policy.check();
    if (!checked) {
        co_return checked;
    }
    auto adopted = co_await link_.adopt(intake_->take_control());
    if (adopted) {
        Attempt attempt;
        attempt.migration_id = arrival_.migration_id;
        runner_.tell(event::Connected{attempt});
    }
    co_return adopted;
}

Task<void> DestinationSession::plan() {
    enter(DestinationState::plan);
    auto message = co_await expect(Control::kPlan, options_.policy.plan_deadline);
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    auto step = co_await check_plan(message->plan());
    if (!step) {
        co_return step;
    }
    step = co_await consult_arbiter();
    if (!step) {
        co_return step;
    }
    step = co_await make_machine();
    if (!step) {
        co_return step;
    }
    step = link_.inbox().only_pages_are_due();
    if (!step) {
        co_return step;
    }
    link_.inbox().missing_pages_are_of(machine_->memory());
    co_return co_await answer_plan();
}

Task<void> DestinationSession::answer_plan() {
    auto verdict = verdict_on(plan_, offer_);
    Control answer;
    auto& good = *answer.mutable_plan_answer();
    to_proto(verdict, offer_, good);
    good.set_ticket(intake_->ticket().to_wire());
    good.set_bulk_channels(streams_);
    progress_.planned(std::move(verdict.findings));
    co_return co_await link_.channel().send(answer);
}

/// Everything that speaks against the VM is said at once, before anything is made for it.
Task<void> DestinationSession::check_plan(const formats::proto::Plan& message) {
    auto plan = from_proto(message);
    if (!plan) {
        co_return formats::fail(std::move(plan).error());
    }
    plan_ = *std::move(plan);
    streams_ = std::clamp<std::uint32_t>(message.bulk_channels(), 1, channels_limit);
    arrival_.vm_name = plan_.vm_name;
    arrival_.vm_id = plan_.vm_id;
    arrival_.source_backend = plan_.backend;
    arrival_.config = plan_.config;
    progress_.set_memory(plan_.config.memory);
    const auto measure =
        options_.available_memory
            ? options_.available_memory
            : std::function<formats::Result<formats::Bytes>()>{host_memory_headroom};
    auto available = co_await on_worker(measure);
    if (!available) {
        co_return formats::fail(std::move(available).error());
    }
    offer_ = HostOffer{options_.host, *available};
    co_return accept_plan(plan_, offer_);
}

Task<void> DestinationSession::make_machine() {
    auto make = [this] {
        return options_.make_machine(arrival_);
    };
    auto machine = co_await on_worker(make);
    if (!machine) {
        co_return formats::fail(std::move(machine).error().during("making the VM"));
    }
    machine_ = *std::move(machine);
    auto checked = check_layout(plan_, machine_->memory());
    if (!checked) {
        co_return checked;
    }
    pages_.emplace(machine_->memory(), streams_, executor_, options_.threads);
    page_tasks_.emplace(executor_);
    co_return Status{};
}

/// One that this host does not reach would be found out when the guest stands still. What it says
/// is of no interest yet.
Task<void> DestinationSession::consult_arbiter() {
    if (plan_.arbiter.empty() || !is_shared_arbiter(plan_.arbiter)) {
        co_return Status{};
    }
    auto ask = [this] {
        return ask_arbiter(
            {.arbiter = plan_.arbiter, .wanted = std::nullopt, .asker = Asker::destination});
    };
    auto says = co_await on_worker(ask);
    if (!says) {
        co_return formats::fail(std::move(says).error().during("asking the arbiter"));
    }
    co_return Status{};
}

/// As many bulk channels as were agreed on.
Task<void> DestinationSession::gather() {
    for (std::uint32_t i = 0; i < streams_; ++i) {
        auto opened = co_await next_channel(ChannelRole::bulk, options_.policy.plan_deadline);
        if (!opened) {
            co_return formats::fail(std::move(opened).error());
        }
        auto added = pages_->add(*std::move(opened));
        if (!added) {
            co_return added;
        }
    }
    progress_.set_streams(streams_);
    co_return Status{};
}

/// What the channels' threads count, as progress.
Task<void> DestinationSession::watch_pages() {
    while (true) {
        auto waited = co_await transport::pause_for(count_every);
        if (!waited) {
            co_return waited;
        }
        count_pages();
    }
}

void DestinationSession::count_pages() {
    if (memory_ && is_faulting_) {
        progress_.set_missing(memory_->missing_count(), memory_->queue().waiting());
    }
    if (pages_) {
        progress_.count(pages_->counters().sums());
    }
}

/// The state may overtake the last pages, which come on other channels.
Task<void> DestinationSession::fill() {
    enter(DestinationState::filling);
    progress_.begin_round(0, formats::Bytes{0});
    pages_->start([this](const formats::Error& error) {
        if (state_.state() <= DestinationState::filling) {
            lose_pages(error);
        }
    });
    page_tasks_->start(pages_->tell_placed(link_.channel()));
    helpers_.start(watch_pages());
    while (true) {
        auto end = co_await pages_->round_end(patience);
        if (!end) {
            co_return formats::fail(std::move(end).error());
        }
        count_pages();
        progress_.end_round();
        if (end->is_last) {
            break;
        }
        progress_.begin_round(end->round + 1, formats::Bytes{0});
        pages_->open_next_round();
        Control answer;
        answer.mutable_round_stored()->set_round(end->round);
        auto told = co_await link_.channel().send(answer);
        if (!told) {
            co_return told;
        }
    }
    auto state = co_await link_.inbox().expect_state(options_.policy.handover_deadline);
    if (!state) {
        co_return formats::fail(std::move(state).error());
    }
    state_bytes_ = *std::move(state);
    co_return Status{};
}

/// It follows the state at once. That this side would take the VM is written while it is loaded.
Task<void> DestinationSession::take_offer() {
    auto offer = co_await expect(Control::kOffer, options_.policy.handover_deadline);
    if (!offer) {
        co_return formats::fail(std::move(offer).error());
    }
    Attempt attempt;
    attempt.arbiter = offer->offer().arbiter();
    attempt.migration_id = arrival_.migration_id;
    attempt.pages_missing = offer->offer().pages_are_missing();
    const bool is_as_planned = plan_.arbiter.empty() || plan_.arbiter == attempt.arbiter;
    if (attempt.arbiter.size() > arbiter_name_limit || attempt.arbiter.empty() || !is_as_planned ||
        attempt.pages_missing != missing_.has_value()) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("{} made an offer that it did not prepare", link_.channel().peer()));
    }
    is_offered_ = true;
    link_.hear_words();
    offered_epoch_ = Epoch{offer->offer().epoch()};
    runner_.tell(event::Offered{offered_epoch_, attempt});
    co_return Status{};
}

Task<void> DestinationSession::restore(const vmm::MachineState& state) {
    auto work = [this, &state] {
        return machine_->restore(state);
    };
    co_return co_await on_worker(work);
}

/// From the moment the acceptance is on its way this side cannot know whether the VM is its own.
Task<void> DestinationSession::load() {
    auto state = vmm::decode_machine_state(state_bytes_);
    if (!state) {
        co_return formats::fail(std::move(state).error());
    }
    const auto begun = progress_.now();
    if (missing_) {
        auto armed = co_await arm();
        if (!armed) {
            co_return armed;
        }
    }
    auto restored = co_await restore(*state);
    if (!restored) {
        co_return formats::fail(std::move(restored).error().during("restoring the VM's state"));
    }
    const auto took = progress_.now() - begun;
    progress_.blackout().load = took;
    enter(DestinationState::loaded);
    // A source that has given up since would never hear the acceptance.
    auto there = link_.inbox().status();
    if (!there) {
        co_return there;
    }
    if (!gate_.close()) {
        co_return formats::fail(ErrorCode::cancelled, "the migration was cancelled");
    }
    Control answer;
    answer.mutable_loaded()->set_restore_us(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    auto told = co_await link_.say(answer);
    if (!told) {
        co_return told;
    }
    runner_.tell(event::Loaded{offered_epoch_});
    co_return Status{};
}

} // namespace wherry::migrate::detail
