// SPDX-License-Identifier: Apache-2.0
// The phases of a source in order: what it does while all is well. How it opens its channels is in
// source_opening.cpp.
#include "migrate/detail/phase_order.hpp"
#include "migrate/detail/source_flow.hpp"
#include "migrate/estimate.hpp"
#include "migrate/first_pass.hpp"
#include "vmm/saved_state.hpp"

#include <array>

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// Between the end of a round on our side and the destination's word that it has it all: bounds
/// what is under way in buffers at the slowest bandwidth allowed.
constexpr Duration round_deadline = std::chrono::minutes{2};

} // namespace

Task<void> SourceSession::phases() {
    using Phase = Task<void> (SourceSession::*)();
    constexpr std::array<Phase, 5> phases{
        &SourceSession::connect,
        &SourceSession::plan,
        &SourceSession::open_bulk,
        &SourceSession::precopy,
        &SourceSession::drain};
    co_return co_await in_order(*this, phases);
}

Status SourceSession::check_guest() const {
    const auto end = machine_.end();
    if (!end) {
        return {};
    }
    return formats::fail(
        ErrorCode::wrong_state,
        fmt::format("the guest ended by itself while it was being moved: {}", end->text));
}

Task<void> SourceSession::send_round(const dirtylog::DirtySet& pages, Pace pace, bool is_last) {
    const auto begun = progress_.now();
    progress_.begin_round(round_, formats::bytes_of(pages.count()));
    RoundPlan plan;
    plan.number = round_;
    plan.pace = pace;
    plan.is_last = is_last;
    auto totals = co_await pages_->send(plan, pages);
    if (!totals) {
        co_return formats::fail(std::move(totals).error());
    }
    last_round_ = *totals;
    if (!is_last) {
        auto stored = co_await expect(Control::kRoundStored, round_deadline);
        if (!stored) {
            co_return formats::fail(std::move(stored).error());
        }
        if (stored->round_stored().round() != round_) {
            co_return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "the destination stored round {} and not {}",
                    stored->round_stored().round(),
                    round_));
        }
    }
    last_round_took_ = progress_.now() - begun;
    count_pages();
    progress_.end_round();
    ++round_;
    co_return Status{};
}

formats::Result<Decision> SourceSession::judge_round(formats::PageCount dirtied) {
    RoundObservation seen;
    seen.wire_bytes = last_round_.wire_bytes;
    seen.duration = last_round_took_ - last_round_.waited;
    seen.sent = last_round_.raw_pages + last_round_.zero_pages + last_round_.untold;
    seen.fixed_cost = options_.fixed_cost + 2 * link_.channel().round_trip();
    const Decision decision = rounds_.judge(seen, last_round_took_, dirtied);
    const Convergence& convergence = rounds_.convergence();
    if (round_ == 1 && !convergence.is_hurried()) { // else it was no pass over all memory
        progress_.forecast(forecast_after_first_pass(seen, options_.policy));
    }
    if (decision == Decision::give_up) {
        return convergence.is_late() ? formats::fail(ErrorCode::timed_out, explain_lateness())
                                     : formats::fail(ErrorCode::wrong_state, explain_stall());
    }
    return decision;
}

Task<void> SourceSession::precopy() {
    enter(SourceState::precopy);
    auto step = co_await rounds_.start();
    if (!step) {
        co_return step;
    }
    if (rounds_.convergence().is_hurried()) { // before the first page: all of them follow the guest
        leaves_pages_ = true;
        co_return Status{};
    }
    if (options_.policy.mode == Mode::hybrid) {
        helpers_.start(watch_first_pass(), [this](const Status& watched) {
            if (!watched && watched.error().code() != ErrorCode::cancelled) {
                progress_.note(watched.error().text());
            }
        });
    }
    while (true) {
        step = co_await send_round(rounds_.dirty(), Pace::limited, false);
        if (!step) {
            co_return step;
        }
        // While what is dirty is still what was to be sent.
        const auto unsent =
            rounds_.convergence().is_hurried() ? std::optional{pages_->unsent()} : std::nullopt;
        step = co_await rounds_.collect();
        if (!step) {
            co_return step;
        }
        step = check_guest();
        if (!step) {
            co_return step;
        }
        if (dirty_meanwhile_) { // the worker is done with it: collect() came behind it
            rounds_.dirty().merge(*dirty_meanwhile_);
            dirty_meanwhile_->clear();
        }
        const formats::PageCount dirtied = rounds_.dirty().count();
        if (unsent) {
            rounds_.dirty().merge(*unsent);
        }
        auto decision = judge_round(dirtied);
        if (!decision) {
            co_return formats::fail(std::move(decision).error());
        }
        leaves_pages_ = *decision == Decision::go_hybrid;
        if (*decision != Decision::again) {
            co_return Status{};
        }
    }
}

/// At a person's word. The round under way is broken off, and precopy() goes on from there.
Status SourceSession::switch_to_postcopy() {
    const std::string& name = options_.vm_name;
    if (state_.state() > SourceState::precopy && state_.state() != SourceState::reclaimed) {
        return formats::fail(
            ErrorCode::wrong_state,
            leaves_pages_
                ? fmt::format("{0} is in post-copy already: wherry status {0}", name)
                : fmt::format(
                      "it is too late for post-copy: the guest of {} has been stopped to be "
                      "handed over with all of its memory, which only takes a moment",
                      name));
    }
    if (is_stopping_ || gate_.is_requested() || state_.state() == SourceState::reclaimed) {
        return formats::fail(
            ErrorCode::wrong_state,
            fmt::format(
                "the migration of {} is being given up; another one can be begun with wherry "
                "migrate --mode hybrid",
                name));
    }
    if (!postcopy_obstacle_) {
        return formats::fail(
            ErrorCode::wrong_state,
            fmt::format(
                "the destination of {} has not said yet whether it can run a guest with pages "
                "missing; ask again in a moment",
                name));
    }
    if (!postcopy_obstacle_->empty()) {
        return formats::fail(
            ErrorCode::unsupported,
            fmt::format(
                "the destination of {0} cannot run a guest with pages missing: {1}; wherry set {0} "
                "on-stall=throttle (or stop) ends the migration in another way",
                name,
                *postcopy_obstacle_));
    }
    if (!leaves_pages_ && !rounds_.convergence().is_hurried()) {
        break_off(fmt::format("post-copy was asked for in round {}", round_));
    }
    return {};
}

/// The round under way, and pre-copy with it.
void SourceSession::break_off(std::string why) {
    rounds_.convergence().hurry();
    if (pages_) {
        pages_->break_off();
    }
    limit_.set_rate({}); // for the batches in hand: the guest is to be stopped now
    progress_.note(std::move(why));
}

/// What the looks at the dirty log find is dirty at the pass's end.
Task<void> SourceSession::watch_first_pass() {
    dirty_meanwhile_.emplace(machine_.memory());
    const formats::PageCount total = rounds_.dirty().count();
    const auto begun = progress_.now();
    FirstPass pass{total};
    while (true) {
        auto waited = co_await transport::pause_for(pass.next_look() - (progress_.now() - begun));
        if (!waited) {
            co_return waited;
        }
        if (!is_in_first_pass()) {
            co_return Status{};
        }
        auto looked = co_await rounds_.collect_into(*dirty_meanwhile_);
        if (!looked || !is_in_first_pass()) {
            co_return looked;
        }
        const formats::PageCount sent = total - pages_->left();
        const Duration passed = progress_.now() - begun;
        if (pass.is_in_vain(rounds_.convergence(), passed, sent, dirty_meanwhile_->count())) {
            break_off(fmt::format(
                "the guest dirties too fast for a pass over all its memory: it goes on at the "
                "destination after {:.0f} % of it",
                100.0 * static_cast<double>(sent.value()) / static_cast<double>(total.value())));
            co_return Status{};
        }
    }
}

} // namespace wherry::migrate::detail
