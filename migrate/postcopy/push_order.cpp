// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/push_order.hpp"

#include <algorithm>
#include <utility>

namespace wherry::migrate {

using formats::Gfn;
using formats::PageCount;
using formats::PageRange;

PushOrder::PushOrder(dirtylog::DirtySet pages) : pages_{std::move(pages)}, left_{pages_.count()} {}

void PushOrder::follow(PageRange fault) {
    const auto is_near = [fault](const Walk& walk) {
        return fault.first() + reach >= walk.next && fault.first() < walk.end + reach;
    };
    const auto known = std::ranges::find_if(walks_, is_near);
    if (known != walks_.end()) {
        walks_.erase(known);
    } else if (walks_.size() == walks_limit) {
        walks_.erase(walks_.begin());
    }
    walks_.push_back(Walk{.next = fault.end(), .end = fault.end() + reach});
}

void PushOrder::on_fault(PageRange pages) {
    const std::lock_guard held{mutex_};
    Gfn at = pages.first();
    std::vector<PageRange> taken;
    left_ -= take_up_to(at, pages.end(), pages.count(), taken);
    follow(pages);
}

/// How many were taken from [from, end); `from` moves behind them, or to `end`.
PageCount
PushOrder::take_up_to(Gfn& from, Gfn end, PageCount budget, std::vector<PageRange>& into) {
    PageCount taken;
    while (taken < budget && from < end) {
        const auto rest = PageRange::make(from, end - from);
        const auto run = rest ? pages_.first_run_in(*rest) : std::nullopt;
        if (!run) {
            from = end;
            break;
        }
        const PageCount count = std::min(run->count(), budget - taken);
        const PageRange part = run->part(PageCount{0}, count);
        pages_.unmark(part);
        into.push_back(part);
        taken += count;
        from = part.end();
    }
    return taken;
}

std::vector<PageRange> PushOrder::take(PageCount budget) {
    const std::lock_guard held{mutex_};
    std::vector<PageRange> runs;
    PageCount taken;
    while (!walks_.empty() && taken < budget) {
        Walk& latest = walks_.back();
        taken += take_up_to(latest.next, latest.end, budget - taken, runs);
        if (latest.next >= latest.end) {
            walks_.pop_back();
        }
    }
    // Twice: the sweep may have begun behind what came back.
    for (int pass = 0; pass < 2 && taken < budget && taken < left_; ++pass) {
        const auto rest = pages_.take_runs(sweep_, budget - taken);
        for (const PageRange run : rest) {
            taken += run.count();
        }
        sweep_ = rest.empty() ? Gfn{0} : rest.back().end();
        runs.insert(runs.end(), rest.begin(), rest.end());
    }
    left_ -= taken;
    return runs;
}

void PushOrder::restart(dirtylog::DirtySet pages) {
    const std::lock_guard held{mutex_};
    pages_ = std::move(pages);
    left_ = pages_.count();
    walks_.clear();
    sweep_ = Gfn{0};
}

PageCount PushOrder::left() const {
    const std::lock_guard held{mutex_};
    return left_;
}

} // namespace wherry::migrate
