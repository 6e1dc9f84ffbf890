// SPDX-License-Identifier: Apache-2.0
// estimate: what a migration would come to, before anything is moved.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <filesystem>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

using formats::Result;

struct Options {
    std::string name;
    std::string for_time = "3s";
    std::string downtime = "100ms";
    std::string bandwidth;
    std::string to; ///< empty: nobody is asked
    std::string tls;
    bool insecure = false;
    std::string connect_timeout = "5s";
    bool json = false;
};

Result<api::EstimateRequest> request_from(const Options& options) {
    const auto for_time = parse_duration(options.for_time);
    if (!for_time) {
        return formats::fail(for_time.error());
    }
    const auto downtime = parse_duration(options.downtime);
    if (!downtime) {
        return formats::fail(downtime.error());
    }
    const auto bandwidth = parse_optional_size(options.bandwidth);
    if (!bandwidth) {
        return formats::fail(bandwidth.error());
    }
    const auto connect_timeout = parse_duration(options.connect_timeout);
    if (!connect_timeout) {
        return formats::fail(connect_timeout.error());
    }
    api::EstimateRequest request;
    request.set_to(options.to);
    if (!options.tls.empty()) {
        // The instance has a working directory of its own.
        request.set_tls_directory(std::filesystem::absolute(options.tls).string());
    }
    request.set_insecure(options.insecure);
    request.set_connect_timeout_ms(static_cast<double>(connect_timeout->count()));
    request.set_for_ms(static_cast<double>(for_time->count()));
    request.set_downtime_ms(static_cast<double>(downtime->count()));
    request.set_bandwidth(static_cast<double>(bandwidth->value()));
    return request;
}

ExitCode estimate(const Options& options) {
    const auto request = request_from(options);
    if (!request) {
        print_error(request.error());
        return ExitCode::usage;
    }
    auto client = ApiClient::connect_to(options.name);
    if (!client) {
        return fail_with(client.error());
    }
    auto job = client->estimate(*request);
    if (job) {
        job = client->watch(job->id(), [](const api::Job&) { return true; });
    }
    if (!job) {
        return fail_with(job.error());
    }
    if (options.json) {
        fmt::print("{}\n", to_json(*job, JsonLayout::one_line));
    }
    if (job->state() != "done") {
        print_error(error_from(job->failure()));
    } else if (!options.json) {
        fmt::print("{}: a migration now\n{}", options.name, describe_estimate(job->estimate()));
    }
    return exit_code_for(*job);
}

} // namespace

void add_estimate(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand(
        "estimate",
        "Watch a running VM for some seconds and predict its migration: total time, bytes on the\n"
        "wire and blackout. Nothing is moved. With --to, a host that waits with `wherry receive`\n"
        "is asked whether it would take the VM, and the link to it measured: it is filled for a\n"
        "second, with 256 MiB at most.\n"
        "Example: wherry estimate a --to host2:7461 --tls pki");
    command->add_option("name", options->name, "The VM to watch")->required();
    command->add_option("--for", options->for_time, "How long to watch it (3s)");
    command->add_option("--downtime", options->downtime, "Longest blackout to aim for (100ms)");
    command->add_option(
        "--bandwidth",
        options->bandwidth,
        "Bytes a second: what the migration and --to may take, and the link's rate where nothing "
        "is\n"
        "known of it from an earlier migration of this VM");
    auto* to = command->add_option("--to", options->to, "host:port of a destination to be asked");
    auto* tls = command
                    ->add_option(
                        "--tls",
                        options->tls,
                        "Directory with ca-cert.pem, client-cert.pem, client-key.pem")
                    ->needs(to);
    command
        ->add_flag(
            "--insecure", options->insecure, "Plain TCP: anyone on the way can read what the VM is")
        ->needs(to)
        ->excludes(tls);
    command
        ->add_option(
            "--connect-timeout", options->connect_timeout, "How long to try to connect (5s)")
        ->needs(to);
    command->add_flag("--json", options->json, "The job as one JSON object");
    command->callback([&action, options] {
        if (!options->to.empty() && options->tls.empty() && !options->insecure) {
            throw CLI::RequiredError("--tls DIR (or --insecure)");
        }
        action = [options] {
            return estimate(*options);
        };
    });
}

} // namespace wherry::tools
