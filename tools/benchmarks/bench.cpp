// SPDX-License-Identifier: Apache-2.0
// Measures; JSON out. What can be measured is in the files beside this one.
#include "tools/benchmarks/benchmarks.hpp"

#include <csignal>

#include <CLI/CLI.hpp>

int main(int argc, char** argv) {
    using wherry::tools::ExitCode;
    std::signal(SIGPIPE, SIG_IGN);
    CLI::App app{"Benchmarks; one JSON object a line, the median last."};
    app.require_subcommand(1);
    auto outcome = ExitCode::done;
    wherry::tools::add_migration(app, outcome);
    wherry::tools::add_cancel(app, outcome);
    wherry::tools::add_snapshot(app, outcome);
    wherry::tools::add_dirty_scan(app, outcome);
    wherry::tools::add_faults(app, outcome);
    wherry::tools::add_harvest(app, outcome);
    wherry::tools::add_restore(app, outcome);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::usage);
    }
    return static_cast<int>(outcome);
}
