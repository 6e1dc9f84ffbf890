// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"

#include <string>

namespace wherry::tools {

/// What the process ends with; scripts rely on these.
enum class ExitCode : int {
    done = 0,
    failed = 1, ///< of a migration: the VM is safe on the source
    usage = 2,
    cancelled = 3,
    in_doubt = 4, ///< cannot know which side owns the VM; it is paused
};

ExitCode exit_code_for(const formats::Error& error);
ExitCode exit_code_for(const api::Job& job);

/// "wherry: text" on standard error, with the side and phase where they are known.
void print_error(const formats::Error& error);
/// Prints the error and returns the code to exit with.
ExitCode fail_with(const formats::Error& error);

/// "pass 3 · 41.2 GiB of 64.0 GiB · ..." for a job that runs, without a line end; of an estimate,
/// how long the guest has been watched.
std::string progress_line(const api::Job& job);
/// Several lines: how the finished migration went, blackout broken down, with what was expected of
/// it beside what became of it.
std::string describe_report(const api::Job& job);
/// Several lines: what an estimate has found.
std::string describe_estimate(const api::Estimate& estimate);

} // namespace wherry::tools
