// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "formats/result.hpp"
#include "vmm/machine.hpp"

#include <memory>
#include <string>

namespace wherry::dirtylog {

/// Says which pages were written. Between start and stop no write is ever lost: a page written
/// before a collect began is in that collect's result or in an earlier one; a page written during
/// it is in that one or the next.
///
/// An error of the log means that everything may be dirty: collect has then marked *all* pages in
/// `into` and returns the error. The set is right either way, only larger, so a caller may go on;
/// one that sees the error again and again cannot converge and should give up.
///
/// One thread at a time. Destruction stops.
class DirtyTracker {
public:
    DirtyTracker() = default;
    DirtyTracker(const DirtyTracker&) = delete;
    DirtyTracker& operator=(const DirtyTracker&) = delete;
    virtual ~DirtyTracker() = default;

    /// "kvm dirty log", "userfaultfd": for people.
    [[nodiscard]] virtual const std::string& name() const noexcept = 0;

    /// From here on writes are tracked; the first collect says what was written since. The guest
    /// may run. wrong_state where already started. Failed: nothing is tracked.
    virtual formats::Status start() = 0;
    /// Adds to `into` what was written since the last collect (or start) and forgets it.
    virtual formats::Status collect(DirtySet& into) = 0;
    /// The guest runs at full speed again. What was not collected is forgotten: stop when the
    /// pages do not matter any more, or treat all of them as dirty. Idempotent.
    virtual formats::Status stop() = 0;
};

/// The best tracker for a machine: its hypervisor's log, else userfaultfd on its memory; in both
/// cases with what the VMM itself writes. Fails with `unsupported`, saying why, where there is
/// none. `machine` outlives the tracker; a machine has one tracker at a time.
formats::Result<std::unique_ptr<DirtyTracker>> make_tracker(vmm::Machine& machine);

} // namespace wherry::dirtylog
