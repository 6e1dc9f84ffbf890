// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tools/cli/output.hpp"
#include "tools/trial/trial.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace CLI {
class App;
}

namespace wherry::tools {

/// Each adds one subcommand, which measures, prints one JSON object a line, the median last, and
/// leaves in `outcome` how it ended. `outcome` outlives the parsing.
void add_migration(CLI::App& app, ExitCode& outcome);
void add_cancel(CLI::App& app, ExitCode& outcome);
void add_snapshot(CLI::App& app, ExitCode& outcome);
void add_dirty_scan(CLI::App& app, ExitCode& outcome);
void add_faults(CLI::App& app, ExitCode& outcome);
void add_harvest(CLI::App& app, ExitCode& outcome);
void add_restore(CLI::App& app, ExitCode& outcome);

/// For trials that nobody watches.
inline TrialObserver silent_observer() {
    return {
        .step = [](const std::string&) {},
        .progress =
            [](const api::Job&) {
            }};
}
/// Of a trial's guest: a measurement of one that finds wrong pages says nothing.
inline formats::Status found_no_errors(const GuestLog::Totals& guest) {
    return guest.errors == 0 ? formats::Status{}
                             : formats::fail(
                                   formats::ErrorCode::corrupted,
                                   fmt::format("the guest found {} errors", guest.errors));
}

/// `values` is not empty.
inline double median(std::vector<double> values) {
    std::ranges::sort(values);
    const auto middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

} // namespace wherry::tools
