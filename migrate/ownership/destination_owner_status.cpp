// SPDX-License-Identifier: Apache-2.0
// What a destination says of itself.
#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/state_table.hpp"

#include <array>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using D = DestinationOwnerState;

constexpr auto here = Custody::destination;
constexpr auto there = Custody::source;
constexpr auto unknown = Custody::undetermined;
constexpr auto ahead = CommitPoint::ahead;
constexpr auto behind = CommitPoint::behind;

constexpr std::array<StateRow<D>, 14> table{{
    {D::idle, "idle", there, ahead, "no VM has arrived"},
    {D::accepting, "accepting", there, ahead, "offered; the guest is being loaded"},
    {D::accepted, "accepted", unknown, behind, "loaded and paused; the commit is awaited"},
    {D::in_doubt, "in-doubt", unknown, behind, "paused: which side has the VM is not known here"},
    {D::starting, "starting", here, behind, "the VM is this side's, and is about to start"},
    {D::launching, "launching", here, behind, "the VM is this side's and is being started"},
    {D::faulting, "faulting", here, behind, "the VM runs here and gets pages that are missing"},
    {D::done, "done", here, behind, "the VM is here"},
    {D::abandoning, "abandoning", there, behind, "the copy is dropped; that is being noted"},
    {D::abandoned, "abandoned", there, behind, "the VM never ran here and never will"},
    {D::lost, "lost", here, behind, "the VM is this side's and does not run: it is to be booted"},
    {D::split,
     "split",
     here,
     behind,
     "half of the VM's memory is gone: it is to be ended and booted"},
    {D::salvaging, "salvaging", unknown, behind, "the VM never runs again from here"},
    {D::salvaged, "salvaged", unknown, behind, "the VM never runs again from here; join its half"},
}};

static_assert(is_in_order(table));

constexpr const StateRow<D>& row(D state) {
    return table[static_cast<std::size_t>(state)];
}

} // namespace

std::string_view name_of(DestinationOwnerState state) noexcept {
    return row(state).name;
}

CommitPoint DestinationOwner::commit_point() const {
    return row(state_).commit_point;
}

OwnershipStatus DestinationOwner::status() const {
    return {row(state_).name, row(state_).custody, epoch_, sentence()};
}

std::string DestinationOwner::sentence() const {
    std::string text{row(state_).sentence};
    if (state_ == State::in_doubt) {
        text += is_shared() ? fmt::format("; arbiter {} is asked", attempt_.arbiter)
                            : std::string{"; the source is asked, or decide with 'wherry resolve'"};
        if (is_shared() && is_arbiter_away()) {
            text += without_arbiter_hint;
        }
    }
    if (state_ == State::faulting && !is_connected_) {
        text += "; the source is not connected, and what needs one of them waits";
    }
    if (!reason_.empty() && state_ != State::done && state_ != State::idle) {
        text += ": " + reason_;
    }
    return with_trouble(std::move(text));
}

} // namespace wherry::migrate
