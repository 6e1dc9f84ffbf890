// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/convergence.hpp"

namespace wherry::migrate {

/// When the dirty log is looked at in the middle of the first pass, and what is made of it: each
/// time when twice as much time has passed, so that there are few readings however long it takes.
/// Pure; a session goes by it, and so does an estimate.
class FirstPass {
public:
    /// What is in it, each page once.
    explicit FirstPass(formats::PageCount total) : total_{total} {}

    /// Of the next look, since the pass began.
    [[nodiscard]] Duration next_look() const noexcept { return next_look_; }
    /// A look at `time` since the pass began found `sent` pages handed out and `dirtied` pages
    /// written. Whether it is in vain to go on with the pass.
    [[nodiscard]] bool is_in_vain(
        const Convergence& convergence,
        Duration time,
        formats::PageCount sent,
        formats::PageCount dirtied);

private:
    formats::PageCount total_;
    formats::PageCount dirtied_by_half_;
    /// A shorter pass is soon over anyway.
    Duration next_look_ = std::chrono::milliseconds{200};
};

} // namespace wherry::migrate
