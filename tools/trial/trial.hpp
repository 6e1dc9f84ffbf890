// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "tools/trial/guest_log.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>

namespace wherry::tools {

/// One migration of the test guest between two processes of this program on loopback over mTLS:
/// what `wherry demo` shows and `wherry-bench` measures.
struct TrialOptions {
    std::filesystem::path program; ///< the wherry executable
    std::filesystem::path guest;   ///< the test guest's ELF
    std::string hypervisor = "auto";
    formats::Bytes memory{0};
    std::uint32_t vcpus = 1;
    std::string guest_options; ///< its command line
    std::chrono::milliseconds downtime{100};
    std::uint32_t streams = 0; ///< 0: auto
    std::string mode;          ///< of the migration; empty: what the instance takes
    std::string on_stall;      ///< the same
    formats::Bytes bandwidth;  ///< of the migration, a second; 0: no limit
    /// How long the guest works before it is moved.
    std::chrono::milliseconds settle{1000};
    /// Memory touched and given back just before the move. A host that is a virtual machine itself
    /// may have given its free memory to its own host, and then waits for that at each first touch;
    /// a measurement must not count such waits. 0: none.
    formats::Bytes warmed_memory{0};
    /// For the guest to fill its memory, and for its first full sweep after the move.
    std::chrono::seconds patience{300};
};

struct TrialObserver {
    std::function<void(const std::string&)> step; ///< one line for people as each step begins
    std::function<void(const api::Job&)> progress;
};

struct TrialResult {
    api::Job job;
    std::string hypervisor;
    GuestLog::Totals guest;
    /// By the guest's own TSC: the gap in its work that the hand-over made, and the longest of all
    /// from the start of the migration to the guest's first report at the destination.
    std::chrono::microseconds felt_blackout{0};
    std::chrono::microseconds longest_gap{0};
    /// Pages a second it really dirtied while being moved.
    double dirty_rate = 0;
};

/// Sets up, moves, waits until the guest has checked every page at the destination, and cleans
/// up. A failed migration is an Error; a guest that found errors is a result.
formats::Result<TrialResult> run_trial(const TrialOptions& options, const TrialObserver& observer);

struct CancelTrialResult {
    GuestLog::Totals guest;
    std::uint32_t throttle_percent = 0; ///< of the guest when the cancel was sent
    /// From then until the job had ended, and until the guest had worked for 200 ms at 90 % of its
    /// rate before the migration, as seen through its log.
    std::chrono::milliseconds answered{0};
    std::chrono::milliseconds recovered{0};
    /// Pages a second that the guest dirtied and checked: before the migration, in its last 200 ms,
    /// and once it had recovered.
    double rate_before = 0;
    double rate_meanwhile = 0;
    double rate_after = 0;
};

/// A migration whose goal the guest does not meet, cancelled once the guest is slowed down by
/// `throttle_percent`. The guest reports every 50 ms or more often and has one vCPU.
formats::Result<CancelTrialResult> run_cancel_trial(
    const TrialOptions& options, std::uint32_t throttle_percent, const TrialObserver& observer);

/// One live snapshot of the test guest in a process of this program. Of the options those of the
/// guest count, and `downtime`.
struct SnapshotTrialOptions {
    TrialOptions guest;
    std::string layout;
    std::filesystem::path directory; ///< where the image is made; it is removed again
};

struct SnapshotTrialResult {
    api::Job job;
    GuestLog::Totals guest;
    /// By the guest's own TSC: the longest gap in its work while its image was written.
    std::chrono::microseconds longest_gap{0};
};
formats::Result<SnapshotTrialResult>
run_snapshot_trial(const SnapshotTrialOptions& options, const TrialObserver& observer);

/// This program, and the test guest built with it or installed beside it.
std::filesystem::path own_program();
formats::Result<std::filesystem::path> find_test_guest();

} // namespace wherry::tools
