// SPDX-License-Identifier: Apache-2.0
#include "migrate/detail/precopy_rounds.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate::detail {

using formats::Status;
using transport::Task;

PrecopyRounds::PrecopyRounds(
    vmm::Machine& machine, const Policy& policy, Progress& progress, transport::Executor worker)
    : machine_{machine},
      progress_{progress},
      worker_{std::move(worker)},
      convergence_{policy},
      throttle_{machine} {}

Task<void> PrecopyRounds::start() {
    auto tracker = dirtylog::make_tracker(machine_);
    if (!tracker) {
        co_return formats::fail(std::move(tracker).error());
    }
    tracker_ = *std::move(tracker);
    auto start = [this] {
        return tracker_->start();
    };
    auto started = co_await on_worker(start);
    if (!started) {
        co_return started;
    }
    // After the start: what is touched from now on is in the log.
    auto look = [this] {
        return dirtylog::DirtySet::populated(machine_.memory());
    };
    auto populated = co_await on_worker(look);
    if (!populated) {
        co_return formats::fail(std::move(populated).error());
    }
    dirty_ = *std::move(populated);
    co_return Status{};
}

Task<void> PrecopyRounds::collect() {
    const auto begun = progress_.now();
    dirty_->clear();
    auto collected = co_await collect_into(*dirty_);
    collecting_ = progress_.now() - begun;
    if (collected) {
        failed_collects_ = 0;
        co_return collected;
    }
    progress_.note(collected.error().text());
    ++failed_collects_;
    if (failed_collects_ > 1) {
        co_return formats::fail(std::move(collected).error().during("tracking dirty pages"));
    }
    co_return Status{};
}

Task<void> PrecopyRounds::collect_into(dirtylog::DirtySet& pages) {
    auto collect = [this, &pages] {
        return tracker_->collect(pages);
    };
    co_return co_await on_worker(collect);
}

Task<void> PrecopyRounds::stop() {
    release();
    if (!tracker_) {
        co_return Status{};
    }
    auto stop = [this] {
        return tracker_->stop();
    };
    auto stopped = co_await on_worker(stop);
    tracker_.reset();
    co_return stopped;
}

Decision PrecopyRounds::judge(RoundObservation& seen, Duration took, formats::PageCount dirtied) {
    progress_.set_dirty_rate(rate_of(formats::bytes_of(dirtied), took));
    seen.remaining = dirty_->count();
    seen.elapsed = progress_.elapsed();
    seen.fixed_cost += collecting_;
    const Decision decision = convergence_.after_round(seen);
    progress_.predict(convergence_.predicted_blackout(), formats::bytes_of(seen.remaining));
    if (convergence_.throttle_percent() > throttle_.percent()) {
        progress_.note(fmt::format(
            "round {}: the guest is slowed down by {} % for rounds to get smaller",
            progress_.snapshot().round,
            convergence_.throttle_percent()));
    }
    slow_down(convergence_.throttle_percent());
    return decision;
}

void PrecopyRounds::adopt(const Policy& policy) {
    convergence_.adopt(policy);
    slow_down(convergence_.throttle_percent());
}

void PrecopyRounds::slow_down(unsigned percent) {
    throttle_.set(percent);
    progress_.set_throttle(percent);
}

} // namespace wherry::migrate::detail
