// SPDX-License-Identifier: Apache-2.0
// arbiter init: a directory that decides who has a VM.
#include "migrate/ownership/file_arbiter.hpp"
#include "tools/cli/commands.hpp"

#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

ExitCode init(const std::string& directory) {
    const auto made = migrate::FileArbiter::prepare(directory);
    if (!made) {
        return fail_with(made.error());
    }
    fmt::print("{0}: an arbiter for migrate --arbiter file:{0}\n", directory);
    return ExitCode::done;
}

} // namespace

void add_arbiter(CLI::App& app, Action& action) {
    auto* arbiter = app.add_subcommand("arbiter", "Directories that decide who has a VM");
    arbiter->require_subcommand(1);
    const auto directory = std::make_shared<std::string>();
    auto* init_command = arbiter->add_subcommand(
        "init",
        "Make a directory an arbiter, once, on a file system that both hosts have mounted.\n"
        "Example: wherry arbiter init /mnt/shared/wherry\n"
        "         wherry migrate a --to b:7461 --tls pki --arbiter file:/mnt/shared/wherry");
    init_command->add_option("directory", *directory, "Made where it is missing")->required();
    init_command->callback([&action, directory] {
        action = [directory] {
            return init(*directory);
        };
    });
}

} // namespace wherry::tools
