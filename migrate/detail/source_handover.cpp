// SPDX-License-Identifier: Apache-2.0
// The source from the moment at which its guest stands still: what the SourceOwner wants done.
#include "formats/page_digest.hpp"
#include "migrate/detail/source_flow.hpp"
#include "migrate/ownership/words.hpp"
#include "migrate/postcopy/missing_pages_message.hpp"
#include "vmm/saved_state.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::ErrorCode;
using formats::Status;

namespace {

/// For a destination to be reached again that may hold a copy and wait for a word. Where it is
/// gone for good, it is the user who waits.
constexpr Duration last_word_limit = std::chrono::seconds{5};
/// Of the pages that the guest dirtied just before it stood still; a millisecond's work.
constexpr formats::PageCount recent_pages_limit{256};

} // namespace

Attempt SourceSession::attempt() const {
    return Attempt{
        .arbiter = options_.arbiter,
        .migration_id = options_.migration_id,
        .pages_missing = leaves_pages_};
}

/// vCPUs first, then devices, then the last look at what both of them wrote: nothing can write
/// after that look. That the VM is offered is written while the last pages are on their way.
Task<void> SourceSession::drain() {
    Status step;
    if (leaves_pages_) {
        step = co_await prepare_postcopy();
        if (!step) {
            co_return step;
        }
    }
    enter(SourceState::drain);
    Blackout& blackout = progress_.blackout();
    stopped_at_ = progress_.now();
    auto stop = [this] {
        return StoppedGuest::stop(machine_);
    };
    auto stopped = co_await on_worker(stop);
    if (!stopped) {
        co_return formats::fail(std::move(stopped).error());
    }
    stopped_.emplace(*std::move(stopped));
    link_.hear_words();
    runner_.tell(event::GuestStopped{attempt()});
    step = check_guest();
    if (!step) {
        co_return step;
    }
    const auto standing = progress_.now();
    blackout.stop = standing - stopped_at_;
    dirtylog::DirtySet left = rounds_.dirty();
    step = co_await rounds_.collect();
    if (!step) {
        co_return step;
    }
    if (leaves_pages_) {
        step = co_await name_missing_pages(std::move(left));
    } else {
        rounds_.dirty().merge(left);
        step = co_await send_last_pages();
    }
    if (!step) {
        co_return step;
    }
    const auto pages_sent = progress_.now();
    blackout.pages = pages_sent - standing;
    step = co_await send_state();
    if (!step) {
        co_return step;
    }
    stopped_at_ = progress_.now();
    blackout.state = stopped_at_ - pages_sent;
    runner_.tell(event::AllSent{});
    auto loaded = co_await expect(Control::kLoaded, options_.policy.handover_deadline);
    if (loaded) {
        const auto loaded_at = progress_.now();
        blackout.load = loaded_at - stopped_at_;
        stopped_at_ = loaded_at;
    }
    // Whether the destination answers in time is the owner's to judge.
    co_return Status{};
}

Task<void> SourceSession::send_last_pages() {
    co_return co_await send_round(rounds_.dirty(), Pace::full, true);
}

/// The channel, for a handshake takes longer than a blackout should; and what was dirtied
/// meanwhile, so that the last look finds what the guest wrote just before it stood still.
Task<void> SourceSession::prepare_postcopy() {
    auto opened = co_await open_urgent();
    if (!opened) {
        co_return opened;
    }
    const dirtylog::DirtySet left = rounds_.dirty();
    auto collected = co_await rounds_.collect();
    rounds_.dirty().merge(left);
    co_return collected;
}

/// `left` and what the last look found are missing then. Of the latter goes some with the round
/// that ends pre-copy: the guest needs it first, and would wait for each of these pages in turn.
Task<void> SourceSession::name_missing_pages(dirtylog::DirtySet left) {
    dirtylog::DirtySet recent{machine_.memory()};
    for (const formats::PageRange run :
         rounds_.dirty().take_runs(formats::Gfn{0}, recent_pages_limit)) {
        recent.mark(run);
    }
    rounds_.dirty().merge(left);
    rounds_.dirty().subtract(recent);
    order_.emplace(rounds_.dirty());
    urgent_->serve(
        machine_.memory(), *order_, limit_, urgent_counters_, [this](const formats::Error& error) {
            lose_pages(error);
        });
    auto ended = co_await send_round(recent, Pace::full, true);
    if (!ended) {
        co_return ended;
    }
    push_round_ = round_;
    co_return co_await send_missing(link_.channel(), rounds_.dirty());
}

Task<void> SourceSession::send_state() {
    auto save = [this] {
        return machine_.save();
    };
    auto state = co_await on_worker(save);
    if (!state) {
        co_return formats::fail(std::move(state).error().during("saving the VM's state"));
    }
    auto bytes = vmm::encode(*state);
    if (!bytes) {
        co_return formats::fail(std::move(bytes).error());
    }
    const std::span<const std::byte> payload = *bytes;
    const auto digest = formats::digest_of(payload);
    auto sent = co_await link_.channel().send(
        formats::FrameType::machine_state, transport::Gather(&payload, 1), digest);
    co_return sent;
}

/// A cancel that came before the acceptance wins against it: exactly one of the two closes the
/// gate.
void SourceSession::on_word(const event::Received& word, const Control& message) {
    const bool would_commit = word.kind == MessageKind::accept &&
                              owner_->state() == SourceOwnerState::offer &&
                              word.epoch == owner_->epoch();
    if (would_commit && !gate_.close()) {
        return; // its event is on its way
    }
    if (word.kind == MessageKind::running && state_.state() == SourceState::committed) {
        progress_.blackout().handover = progress_.now() - stopped_at_;
    }
    if (message.has_complete()) {
        const auto& said = message.complete();
        const auto time = [](std::uint64_t us) {
            constexpr std::uint64_t a_day = 86'400'000'000;
            return std::chrono::microseconds{std::min(us, a_day)};
        };
        progress_.set_faults(
            {.count = said.faults(),
             .median = time(said.median_us()),
             .p99 = time(said.p99_us()),
             .longest = time(said.longest_us()),
             .repeated = formats::PageCount{said.repeated_pages()}});
    }
    runner_.tell(word);
}

void SourceSession::on_link_lost(const formats::Error& error) {
    loss_ = error;
    if (owner_->state() == SourceOwnerState::precopy && state_.state() < SourceState::drain) {
        interrupt(error); // nobody may be waiting for the destination's word
        return;
    }
    lose_pages(error);
    runner_.tell(event::Disconnected{error.text()});
    if (options_.policy.recover_timeout) {
        lose_patience_after(*options_.policy.recover_timeout);
    }
}

void SourceSession::lose_patience_after(Duration limit) {
    patience_.set(limit, [this] {
        has_no_patience_left_ = true;
        runner_.look_again();
    });
}

/// By our own state, which follows the owner's once all that it wanted has been done.
bool SourceSession::is_over() const {
    const SourceState state = state_.state();
    const bool is_here = (state == SourceState::reclaimed || state == SourceState::lost) &&
                         (!owner_->owes_word() || link_.is_up() || has_no_patience_left_);
    return is_here || state == SourceState::handed_off || state == SourceState::salvaged ||
           is_given_up_for_now();
}

/// Not before the user's patience is over: without such a limit it is asked for ever.
bool SourceSession::is_given_up_for_now() const {
    return has_no_patience_left_ && !link_.is_up() &&
           (owner_->state() == SourceOwnerState::in_doubt ||
            owner_->state() == SourceOwnerState::serving ||
            owner_->state() == SourceOwnerState::split);
}

Status SourceSession::write_record(const OwnershipRecord& record) {
    return options_.keeper->write(record);
}

formats::Result<std::optional<ArbiterRecord>>
SourceSession::ask_arbiter(const action::AskArbiter& question) {
    return options_.keeper->ask(question);
}

Task<void> SourceSession::send_word(MessageKind kind, Epoch epoch) {
    if (kind != MessageKind::offer) {
        co_return co_await link_.say(message_of(kind, epoch));
    }
    if (is_shared_arbiter(options_.arbiter) && !gate_.close()) {
        runner_.tell(event::Cancelled{});
        co_return Status{};
    }
    Control message;
    auto& offer = *message.mutable_offer();
    offer.set_epoch(static_cast<std::uint64_t>(epoch));
    offer.set_pages_are_missing(leaves_pages_);
    offer.set_arbiter(options_.arbiter);
    co_return co_await link_.say(message);
}

Task<void> SourceSession::start_guest(bool from_memory) {
    formats::invariant(from_memory && stopped_, "a session has the memory of its guest");
    if (stop_ && !is_stopping_) {
        stop_();
    }
    // The phases may be about to look at a guest that stands still.
    while (stop_) {
        auto ended = co_await phases_ended_.wait();
        if (!ended) {
            co_return ended;
        }
    }
    rounds_.release();
    auto go_on = [this] {
        return stopped_->go_on();
    };
    auto started = co_await on_worker(go_on);
    if (!started) {
        start_failure_ = started.error();
    }
    co_return started;
}

Task<void> SourceSession::stop_guest() {
    auto pause = [this] {
        return machine_.pause();
    };
    co_return co_await on_worker(pause);
}

/// It has stood still since it was offered.
Task<void> SourceSession::try_stop_guest() {
    co_return Status{};
}

Task<void> SourceSession::let_guest_go_on() {
    co_return Status{};
}

/// Its owner drops the machine, as soon as this session has ended.
Task<void> SourceSession::drop_memory() {
    co_return Status{};
}

/// To both users, with what is in either side's way: a full disk, for example.
void SourceSession::explain_owner() {
    link_.set_trouble(owner_->trouble());
    if (owner_->state() != SourceOwnerState::precopy) {
        const auto status = owner_->status();
        progress_.explain(std::string{status.state}, link_.with_peer_trouble(status.sentence));
    }
}

void SourceSession::owner_moved() {
    const auto next = mirrored(owner_->state());
    if (next && *next != state_.state()) {
        follow(*next);
    }
    explain_owner();
    if (stopped_ && is_over() && stop_ && !is_stopping_) {
        stop_(); // nothing is waited for any more
    }
    if (owner_->owes_word() && !link_.is_up() && !std::exchange(is_last_word_due_, true)) {
        lose_patience_after(
            std::min(last_word_limit, options_.policy.recover_timeout.value_or(last_word_limit)));
    }
    const bool can_push = link_.is_up() && pages_ && pages_->is_open();
    if (owner_->state() == SourceOwnerState::serving && !is_pushing_ && can_push) {
        is_pushing_ = true;
        limit_.set_rate(options_.policy.postcopy_bandwidth);
        page_tasks_->start(push());
    }
}

} // namespace wherry::migrate::detail
