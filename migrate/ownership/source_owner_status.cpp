// SPDX-License-Identifier: Apache-2.0
// What a source says of itself.
#include "migrate/ownership/source_owner.hpp"
#include "migrate/ownership/state_table.hpp"

#include <array>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using S = SourceOwnerState;

constexpr auto here = Custody::source;
constexpr auto there = Custody::destination;
constexpr auto unknown = Custody::undetermined;
constexpr auto ahead = CommitPoint::ahead;
constexpr auto behind = CommitPoint::behind;

// With a shared arbiter, offer, reclaiming and in-doubt are `unknown` and the arbiter decides.
constexpr std::array<StateRow<S>, 16> table{{
    {S::precopy, "precopy", here, ahead, "the VM is here"},
    {S::offering, "offering", here, ahead, "the guest stands still, and is about to be offered"},
    {S::offer, "offer", here, ahead, "offered; the destination's acceptance is awaited"},
    {S::committing, "committing", unknown, behind, "the VM is being given up"},
    {S::committed, "committed", unknown, behind, "given up; the destination's word is awaited"},
    {S::in_doubt, "in-doubt", unknown, behind, "paused: which side has the VM is not known here"},
    {S::serving, "serving", there, behind, "the destination runs it and gets missing pages"},
    {S::reclaiming, "reclaiming", here, ahead, "paused: the VM is being taken back"},
    {S::resuming, "resuming", here, ahead, "the VM is this side's and is being started"},
    {S::reclaimed, "reclaimed", here, ahead, "the VM is here, and was taken back"},
    {S::handing_off, "handing-off", there, behind, "the destination has it; that is being noted"},
    {S::handed_off, "handed-off", there, behind, "the destination has the VM"},
    {S::lost, "lost", here, ahead, "the VM is this side's and does not run: it is to be booted"},
    {S::split, "split", there, behind, "half of the VM's memory is gone: it is to be booted"},
    {S::salvaging, "salvaging", unknown, behind, "the VM never runs again from here"},
    {S::salvaged, "salvaged", unknown, behind, "the VM never runs again from here; join its half"},
}};

static_assert(is_in_order(table));

constexpr const StateRow<S>& row(S state) {
    return table[static_cast<std::size_t>(state)];
}

} // namespace

std::string_view name_of(SourceOwnerState state) noexcept {
    return row(state).name;
}

/// Whether it is the arbiter's word alone that is missing.
bool SourceOwner::is_before_arbiter() const {
    return is_shared() && offer_left_ && !is_on_disk(RecordKind::committed) &&
           (state_ == State::offer || state_ == State::in_doubt || state_ == State::reclaiming);
}

CommitPoint SourceOwner::commit_point() const {
    if (is_before_arbiter()) {
        return CommitPoint::arbiter_decides;
    }
    if (state_ == State::in_doubt && is_on_disk(RecordKind::offered)) {
        return CommitPoint::ahead; // restarted; only this side could commit
    }
    return row(state_).commit_point;
}

OwnershipStatus SourceOwner::status() const {
    const Custody custody = is_before_arbiter() ? Custody::undetermined : row(state_).custody;
    return {row(state_).name, custody, epoch_, sentence()};
}

std::string SourceOwner::sentence() const {
    std::string text{row(state_).sentence};
    if (state_ == State::in_doubt || state_ == State::reclaiming) {
        if (is_before_arbiter()) {
            text += fmt::format("; arbiter {} is asked", attempt_.arbiter);
        } else if (state_ == State::in_doubt) {
            text += "; the destination is asked";
        }
        if (state_ == State::in_doubt && (!is_shared() || is_on_disk(RecordKind::committed))) {
            text += ", or decide with 'wherry resolve'";
        }
        if (is_shared() && is_arbiter_away()) {
            text += without_arbiter_hint;
        }
    }
    if (is_split_without_memory()) {
        text += "; only its name is here, which 'wherry resolve' gives up or takes back";
    } else if (state_ == State::split) {
        text += "; 'wherry salvage' writes the half that is here";
    }
    if (state_ == State::serving && !is_connected_) {
        text += "; the destination is not connected, and is called again";
    }
    if (!reason_.empty() && state_ != State::handed_off && state_ != State::precopy) {
        text += ": " + reason_;
    }
    return with_trouble(std::move(text));
}

} // namespace wherry::migrate
