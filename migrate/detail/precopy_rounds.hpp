// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "dirtylog/dirty_tracker.hpp"
#include "migrate/convergence.hpp"
#include "migrate/detail/guest_throttle.hpp"
#include "migrate/progress.hpp"
#include "transport/task.hpp"

#include <cstdint>
#include <memory>
#include <optional>

namespace wherry::migrate::detail {

/// What pre-copy knows of its guest and decides by it, wherever the pages go: a migration's source
/// has one, and a live snapshot. Called on the session's thread, one call at a time; what blocks is
/// done on its worker. Whatever way it ends, the guest is untracked and at full speed.
class PrecopyRounds {
public:
    /// `machine` and `progress` outlive it.
    PrecopyRounds(
        vmm::Machine& machine,
        const Policy& policy,
        Progress& progress,
        transport::Executor worker);

    /// From here on writes are tracked; dirty() is all that was ever touched.
    transport::Task<void> start();
    /// dirty() is what was written since it was last collected. A log that fails marks everything,
    /// which is right, only more; twice in a row is an Error.
    transport::Task<void> collect();
    /// As the tracker's. Not counted as a failure.
    transport::Task<void> collect_into(dirtylog::DirtySet& pages);
    /// Tracking and throttle are off. Idempotent.
    transport::Task<void> stop();

    /// What is to be sent next. Only once started.
    [[nodiscard]] dirtylog::DirtySet& dirty() noexcept { return *dirty_; }

    /// What to do after a round that took `took`, in which `dirtied` pages were written. The rest
    /// of `seen` is filled in: what remains and when it is, and in fixed_cost what collecting
    /// takes. Tells the progress, and slows the guest down as decided.
    Decision judge(RoundObservation& seen, Duration took, formats::PageCount dirtied);
    /// Another policy from now on.
    void adopt(const Policy& policy);
    [[nodiscard]] Convergence& convergence() noexcept { return convergence_; }
    [[nodiscard]] const Convergence& convergence() const noexcept { return convergence_; }
    /// The guest is as free as before.
    void release() { slow_down(0); }

private:
    void slow_down(unsigned percent);
    template <typename Call>
    auto on_worker(Call call) {
        return transport::offload(worker_, std::move(call));
    }

    vmm::Machine& machine_;
    Progress& progress_;
    transport::Executor worker_;
    std::unique_ptr<dirtylog::DirtyTracker> tracker_;
    std::optional<dirtylog::DirtySet> dirty_;
    std::uint32_t failed_collects_ = 0;
    Duration collecting_{};
    Convergence convergence_;
    GuestThrottle throttle_;
};

} // namespace wherry::migrate::detail
