// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/in_doubt_guest.hpp"

#include <deque>
#include <utility>

namespace wherry::migrate {

using formats::Result;
using formats::Status;

InDoubtGuest::InDoubtGuest(
    std::unique_ptr<Owner> owner, OwnershipKeeper& keeper, Keep here, std::function<Status()> start)
    : owner_{std::move(owner)},
      keeper_{&keeper},
      here_{here},
      start_{std::move(start)} {}

Result<Custody> InDoubtGuest::resolve(Keep keep, Assurance assurance) {
    const auto last = owner_->record();
    const bool is_source = here_ == Keep::source;
    const bool is_without_arbiter = assurance == Assurance::arbiter_is_gone;
    if (last && is_shared_arbiter(last->arbiter) && (is_source || is_without_arbiter)) {
        // What it says comes before a person's word. Where it cannot be reached that word may do,
        // of a VM that was given up here already, or of an arbiter that is gone.
        auto follows = carry_out(action::AskArbiter{
            .arbiter = last->arbiter,
            .wanted = std::nullopt,
            .asker = is_source ? Asker::source : Asker::destination});
        if (!follows && last->kind != RecordKind::committed && !is_without_arbiter) {
            return formats::fail(std::move(follows).error());
        }
        auto noted = carry_out(follows ? *std::move(follows) : OwnershipActions{});
        if (noted && is_source) {
            // Nobody is there whose word could be waited for.
            noted =
                carry_out(owner_->handle(event::Disconnected{"the destination is not connected"}));
        }
        if (!noted) {
            return formats::fail(std::move(noted).error());
        }
        const Custody custody = owner_->status().custody;
        if (owner_->record() != last && custody != Custody::undetermined) {
            return custody;
        }
    }
    auto decided = owner_->resolve(keep, assurance);
    if (!decided) {
        return formats::fail(std::move(decided).error());
    }
    auto done = carry_out(*std::move(decided));
    if (!done) {
        return formats::fail(std::move(done).error());
    }
    return owner_->status().custody;
}

Status InDoubtGuest::salvage() {
    auto decided = owner_->salvage();
    if (!decided) {
        return formats::fail(std::move(decided).error());
    }
    return carry_out(*std::move(decided));
}

/// Nobody is there to be told, and nothing is tried again: the person does that.
Status InDoubtGuest::carry_out(OwnershipActions actions) {
    std::deque<OwnershipAction> left{actions.begin(), actions.end()};
    while (!left.empty()) {
        const OwnershipAction action = std::move(left.front());
        left.pop_front();
        auto more = carry_out(action);
        if (!more) {
            return formats::fail(std::move(more).error());
        }
        left.insert(left.end(), more->begin(), more->end());
    }
    return {};
}

Result<OwnershipActions> InDoubtGuest::carry_out(const OwnershipAction& action) {
    if (const auto* record = std::get_if<action::WriteRecord>(&action)) {
        auto written = keeper_->write(record->record);
        if (!written) {
            // The owner would try again by itself, and is not to be asked for it here.
            (void)owner_->handle(event::RecordFailed{written.error().text()});
            return formats::fail(std::move(written).error().during("writing the decision down"));
        }
        return owner_->handle(event::RecordWritten{});
    }
    if (std::holds_alternative<action::StartGuest>(action)) {
        auto started = start_();
        if (!started) {
            (void)owner_->handle(event::GuestNotStarted{started.error().text()});
            return formats::fail(std::move(started).error());
        }
        return owner_->handle(event::GuestStarted{});
    }
    if (const auto* question = std::get_if<action::AskArbiter>(&action)) {
        auto says = keeper_->ask(*question);
        if (!says) {
            (void)owner_->handle(event::ArbiterUnreachable{says.error().text()});
            return formats::fail(std::move(says).error().during("asking the arbiter"));
        }
        return owner_->handle(event::ArbiterSays{*std::move(says)});
    }
    return OwnershipActions{};
}

} // namespace wherry::migrate
