// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/keeper.hpp"
#include "migrate/ownership/owner.hpp"

#include <functional>
#include <memory>

namespace wherry::migrate {

/// A VM whose session has ended while it was not known which side has it, or while it was this
/// side's and did not run. It stays paused until a person decides.
class InDoubtGuest {
public:
    /// `keeper`, and what `start` refers to, outlive it. `start` lets the guest go on, from memory.
    InDoubtGuest(
        std::unique_ptr<Owner> owner,
        OwnershipKeeper& keeper,
        Keep here,
        std::function<formats::Status()> start);

    [[nodiscard]] Keep here() const noexcept { return here_; }
    [[nodiscard]] Epoch epoch() const noexcept { return owner_->epoch(); }
    [[nodiscard]] OwnershipStatus status() const { return owner_->status(); }

    /// Carries the decision out on this side, and says who has the VM then: a shared arbiter may
    /// have decided otherwise, or not yet. It is for the person to make sure that the other side
    /// hears the same. After an Error in doubt still. Blocks for as long as disk and arbiter take.
    formats::Result<Custody> resolve(Keep keep, Assurance assurance = Assurance::none);
    /// The guest never runs again from here, and its half may be written. Blocks as resolve() does.
    formats::Status salvage();

private:
    formats::Status carry_out(OwnershipActions actions);
    formats::Result<OwnershipActions> carry_out(const OwnershipAction& action);

    std::unique_ptr<Owner> owner_;
    OwnershipKeeper* keeper_;
    Keep here_;
    std::function<formats::Status()> start_;
};

} // namespace wherry::migrate
