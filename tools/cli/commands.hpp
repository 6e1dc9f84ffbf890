// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tools/cli/output.hpp"

#include <functional>

namespace CLI {
class App;
}

namespace wherry::tools {

/// What the chosen verb does, set by CLI11 while it parses; empty when none was chosen.
using Action = std::function<ExitCode()>;

/// Each adds verbs to `app`; the one chosen puts its work into `action`, which outlives parsing.
void add_run_and_receive(CLI::App& app, Action& action); ///< restore too
void add_migrate(CLI::App& app, Action& action);
void add_estimate(CLI::App& app, Action& action);
void add_inspection(CLI::App& app, Action& action); ///< ps, status
void add_control(CLI::App& app, Action& action); ///< pause, resume, cancel, postcopy, kill, resolve
void add_images(CLI::App& app, Action& action);  ///< salvage, image
void add_snapshot(CLI::App& app, Action& action);
void add_set(CLI::App& app, Action& action);
void add_pki(CLI::App& app, Action& action);
void add_arbiter(CLI::App& app, Action& action);
void add_demo(CLI::App& app, Action& action);

} // namespace wherry::tools
