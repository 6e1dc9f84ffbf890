// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/page_range.hpp"

#include <cstddef>
#include <mutex>
#include <vector>

namespace wherry::migrate {

/// What is still to be pushed in post-copy, and in which order: first what follows the latest
/// faults, since a guest that was missing a page will be missing its neighbours; then the rest,
/// ascending. Every page is handed out once, until add() brings it back. Any thread.
class PushOrder {
public:
    /// How far behind a fault its successors are preferred.
    static constexpr formats::PageCount reach{512};
    /// Walks of the guest that are followed at the same time; the one without a fault for longest
    /// makes way for a new one.
    static constexpr std::size_t walks_limit = 8;

    explicit PushOrder(dirtylog::DirtySet pages);

    /// The destination waits for these. Takes those of them out that are still to be pushed: they
    /// are on their way by themselves. What follows them comes next.
    void on_fault(formats::PageRange pages);
    /// The next runs, `budget` pages in all at most. Empty: nothing is left.
    [[nodiscard]] std::vector<formats::PageRange> take(formats::PageCount budget);

    /// From now on exactly these are to be pushed: after a lost connection.
    void restart(dirtylog::DirtySet pages);
    [[nodiscard]] formats::PageCount left() const;

private:
    struct Walk {
        formats::Gfn next; ///< where the push goes on
        formats::Gfn end;  ///< and where it ends
    };
    void follow(formats::PageRange fault);
    formats::PageCount take_up_to(
        formats::Gfn& from,
        formats::Gfn end,
        formats::PageCount budget,
        std::vector<formats::PageRange>& into);

    mutable std::mutex mutex_;
    dirtylog::DirtySet pages_;
    formats::PageCount left_;
    std::vector<Walk> walks_; ///< the latest last
    formats::Gfn sweep_;
};

} // namespace wherry::migrate
