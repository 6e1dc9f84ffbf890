// SPDX-License-Identifier: Apache-2.0
// pki: the certificates that two hosts need to trust each other.
#include "transport/pki.hpp"

#include "tools/cli/commands.hpp"

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace wherry::tools {

namespace {

struct Options {
    std::string ca_directory;
    std::string directory;
    std::vector<std::string> hosts;
};

ExitCode finish(const formats::Status& made, const Options& options) {
    if (!made) {
        return fail_with(made.error());
    }
    fmt::print(
        "{}: CA certificate, server and client certificate for {}\n",
        options.directory,
        fmt::join(options.hosts, ", "));
    return ExitCode::done;
}

ExitCode init(const Options& options) {
    return finish(transport::make_pki(options.directory, options.hosts), options);
}

ExitCode issue(const Options& options) {
    return finish(
        transport::issue_host(options.ca_directory, options.directory, options.hosts), options);
}

} // namespace

void add_pki(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    auto* pki = app.add_subcommand("pki", "Make the certificates that hosts trust each other by");
    pki->require_subcommand(1);

    auto* init_command = pki->add_subcommand(
        "init",
        "Make a CA in DIR, and this host's server and client certificates.\n"
        "Example: wherry pki init pki --host localhost,127.0.0.1");
    init_command->add_option("directory", options->directory, "Where to put the files")->required();
    init_command->add_option("--host", options->hosts, "Names and addresses the host is reached by")
        ->delimiter(',')
        ->default_val(std::vector<std::string>{"localhost", "127.0.0.1", "::1"});
    init_command->callback([&action, options] {
        action = [options] {
            return init(*options);
        };
    });

    auto* issue_command = pki->add_subcommand(
        "issue",
        "Make certificates for a further host, signed by an existing CA. Copy DIR to that host.\n"
        "Example: wherry pki issue pki pki-host2 --host host2.example,192.0.2.7");
    issue_command->add_option("ca", options->ca_directory, "The directory with the CA")->required();
    issue_command->add_option("directory", options->directory, "Where to put the files")
        ->required();
    issue_command->add_option("--host", options->hosts, "Names and addresses of the host")
        ->delimiter(',')
        ->required();
    issue_command->callback([&action, options] {
        action = [options] {
            return issue(*options);
        };
    });
}

} // namespace wherry::tools
