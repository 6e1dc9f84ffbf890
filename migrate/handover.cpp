// SPDX-License-Identifier: Apache-2.0
#include "migrate/handover.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

formats::Status check_epoch(std::string_view message, Epoch got, Epoch expected) {
    if (got == expected) {
        return {};
    }
    return formats::fail(
        formats::ErrorCode::protocol,
        fmt::format(
            "{} is for epoch {}, and this hand-over is epoch {}",
            message,
            static_cast<std::uint64_t>(got),
            static_cast<std::uint64_t>(expected)));
}

formats::Status out_of_turn(std::string_view message) {
    return formats::fail(
        formats::ErrorCode::protocol, fmt::format("{} came out of its turn", message));
}

} // namespace

formats::Result<Custody> InDoubtGuest::resolve(Keep keep) {
    const Custody decided = keep == Keep::source ? Custody::source : Custody::destination;
    if (keep == here_) {
        auto resumed = machine_->resume();
        if (!resumed) {
            return formats::fail(std::move(resumed).error().during("resuming the guest"));
        }
    }
    return decided;
}

formats::Result<PausedGuest> PausedGuest::pause(vmm::Machine& machine) {
    const bool ran = machine.running_state() == vmm::RunningState::running;
    auto paused = machine.pause();
    if (!paused) {
        if (ran) {
            // Some vCPUs may stand still already. Nothing else can be done if this fails too: the
            // caller learns of the first failure.
            (void)machine.resume();
        }
        return formats::fail(std::move(paused).error().during("stopping the guest"));
    }
    return PausedGuest{machine, ran};
}

PausedGuest::PausedGuest(PausedGuest&& other) noexcept
    : machine_{std::exchange(other.machine_, nullptr)},
      ran_{other.ran_} {}

PausedGuest::~PausedGuest() {
    if (machine_ != nullptr && ran_) {
        // take_back() is the way that reports.
        (void)machine_->resume();
    }
}

formats::Status PausedGuest::take_back() && {
    vmm::Machine* const machine = std::exchange(machine_, nullptr);
    if (!ran_ || machine->running_state() == vmm::RunningState::ended) {
        return {};
    }
    auto resumed = machine->resume();
    if (!resumed) {
        return formats::fail(
            std::move(resumed).error().during("resuming the guest after a failed migration"));
    }
    return {};
}

GivenUpGuest PausedGuest::commit(Epoch accepted) && noexcept {
    return {*std::exchange(machine_, nullptr), accepted};
}

Epoch SourceHandover::offer() {
    formats::invariant(state_ == State::holding, "a VM is offered once in a migration");
    state_ = State::offered;
    return offered_;
}

formats::Status SourceHandover::on_accept(Epoch epoch) {
    if (state_ != State::offered) {
        return out_of_turn("accept");
    }
    auto checked = check_epoch("accept", epoch, offered_);
    if (checked) {
        state_ = State::accepted;
    }
    return checked;
}

GivenUpGuest SourceHandover::commit(PausedGuest guest) {
    formats::invariant(state_ == State::accepted, "a VM is given up only to one who accepts it");
    state_ = State::committed;
    return std::move(guest).commit(offered_);
}

formats::Status SourceHandover::on_running(Epoch epoch) {
    if (state_ != State::committed) {
        return out_of_turn("running");
    }
    auto checked = check_epoch("running", epoch, offered_);
    if (checked) {
        state_ = State::confirmed;
    }
    return checked;
}

Epoch SourceHandover::epoch_if_kept() const noexcept {
    if (state_ == State::holding) {
        return Epoch{static_cast<std::uint64_t>(offered_) - 1};
    }
    return taken_back(offered_);
}

Custody SourceHandover::custody() const noexcept {
    switch (state_) {
    case State::holding:
    case State::offered:
    case State::accepted:
        return Custody::source;
    case State::committed:
        return Custody::undetermined;
    case State::confirmed:
        return Custody::destination;
    }
    return Custody::undetermined;
}

formats::Status DestinationHandover::on_offer(Epoch epoch) {
    if (state_ != State::empty) {
        return out_of_turn("offer");
    }
    auto checked = check_epoch("offer", epoch, epoch_);
    if (checked) {
        state_ = State::offered;
    }
    return checked;
}

Epoch DestinationHandover::accept() {
    formats::invariant(state_ == State::offered, "only what was offered is accepted, and once");
    state_ = State::accepted;
    return epoch_;
}

formats::Status DestinationHandover::on_commit(Epoch epoch) {
    if (state_ != State::accepted) {
        return out_of_turn("commit");
    }
    auto checked = check_epoch("commit", epoch, epoch_);
    if (checked) {
        state_ = State::committed;
    }
    return checked;
}

Custody DestinationHandover::custody() const noexcept {
    switch (state_) {
    case State::empty:
    case State::offered:
        return Custody::source;
    case State::accepted:
        return Custody::undetermined;
    case State::committed:
        return Custody::destination;
    }
    return Custody::undetermined;
}

} // namespace wherry::migrate
