// SPDX-License-Identifier: Apache-2.0
// The command line.
#include "tools/cli/commands.hpp"

#include <csignal>
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <google/protobuf/stubs/logging.h>

namespace {

int run(int argc, char** argv) {
    using namespace wherry::tools;
    CLI::App app{"wherry moves running virtual machines between hosts."};
    app.name("wherry");
    app.set_version_flag("--version", WHERRY_VERSION);
    app.require_subcommand(1);
    app.footer("Exit codes: 0 done; 1 failed, the VM is safe where it was; 2 usage; 3 cancelled;\n"
               "4 in doubt: which side owns the VM cannot be known, it is paused.");
    Action action;
    add_run_and_receive(app, action);
    add_migrate(app, action);
    add_estimate(app, action);
    add_inspection(app, action);
    add_control(app, action);
    add_images(app, action);
    add_snapshot(app, action);
    add_set(app, action);
    add_pki(app, action);
    add_arbiter(app, action);
    add_demo(app, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::usage);
    }
    return static_cast<int>(action());
}

} // namespace

int main(int argc, char** argv) {
    // A peer or reader that went away is an error of that write, not the end of a VM.
    std::signal(SIGPIPE, SIG_IGN);
    // What a peer sends is judged by us, in one sentence; the library's own lines would only help
    // a hostile peer to fill the log.
    google::protobuf::SetLogHandler(nullptr);
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        fmt::print(stderr, "wherry: {}\n", error.what());
        return static_cast<int>(wherry::tools::ExitCode::failed);
    }
}
