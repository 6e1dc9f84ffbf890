// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/fault_queue.hpp"

#include <algorithm>
#include <iterator>

namespace wherry::migrate {

using formats::Gfn;
using formats::PageCount;
using formats::PageRange;

std::optional<PageRange> FaultQueue::unknown_part(PageRange pages) const {
    Gfn from = pages.first();
    auto wait = waits_.upper_bound(from);
    if (wait != waits_.begin() && std::prev(wait)->second.pages.end() > from) {
        from = std::prev(wait)->second.pages.end();
    }
    for (; from < pages.end(); ++wait) {
        const Gfn known = wait == waits_.end() ? pages.end() : wait->first;
        if (known > from) {
            const PageCount begin = from - pages.first();
            const PageCount end = std::min(known, pages.end()) - pages.first();
            return pages.part(begin, std::min(end, begin + PageCount{longest_wait}));
        }
        from = wait->second.pages.end();
    }
    return std::nullopt;
}

void FaultQueue::wanted(PageRange pages, Clock::time_point now) {
    bool is_news = false;
    {
        const std::lock_guard held{mutex_};
        while (const auto part = unknown_part(pages)) {
            waits_.emplace(part->first(), Wait{.pages = *part, .since = now});
            to_ask_.push_back(part->first());
            is_news = true;
        }
    }
    if (is_news) {
        on_work_();
    }
}

std::vector<PageRange> FaultQueue::take(std::size_t limit) {
    const std::lock_guard held{mutex_};
    std::vector<PageRange> taken;
    auto next = to_ask_.begin();
    for (; next != to_ask_.end() && taken.size() < limit; ++next) {
        const auto wait = waits_.find(*next);
        if (wait != waits_.end() && !wait->second.is_asked) {
            wait->second.is_asked = true;
            taken.push_back(wait->second.pages);
        }
    }
    to_ask_.erase(to_ask_.begin(), next);
    return taken;
}

FaultQueue::Waits::iterator FaultQueue::first_beyond(Gfn page) {
    const auto wait = waits_.upper_bound(page);
    const bool reaches_it = wait != waits_.begin() && std::prev(wait)->second.pages.end() > page;
    return reaches_it ? std::prev(wait) : wait;
}

void FaultQueue::arrived(PageRange pages, Clock::time_point now) {
    const std::lock_guard held{mutex_};
    auto at = first_beyond(pages.first());
    while (at != waits_.end() && at->first < pages.end()) {
        Wait& wait = at->second;
        const Gfn end = std::min(wait.pages.end(), pages.end());
        for (Gfn page = std::max(wait.pages.first(), pages.first()); page < end;
             page += PageCount{1}) {
            wait.there.set(static_cast<std::size_t>((page - wait.pages.first()).value()));
        }
        if (wait.there.count() == wait.pages.count().value()) {
            latency_.record(now - wait.since);
            at = waits_.erase(at);
        } else {
            ++at;
        }
    }
}

void FaultQueue::ask_again() {
    {
        const std::lock_guard held{mutex_};
        to_ask_.clear();
        std::vector<const Wait*> oldest_first;
        for (auto& [first, wait] : waits_) {
            wait.is_asked = false;
            oldest_first.push_back(&wait);
        }
        std::ranges::sort(oldest_first, {}, [](const Wait* wait) { return wait->since; });
        for (const Wait* wait : oldest_first) {
            to_ask_.push_back(wait->pages.first());
        }
    }
    on_work_();
}

std::size_t FaultQueue::waiting() const {
    const std::lock_guard held{mutex_};
    return waits_.size();
}

LatencyHistogram FaultQueue::latency() const {
    const std::lock_guard held{mutex_};
    return latency_;
}

} // namespace wherry::migrate
