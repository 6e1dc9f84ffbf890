// SPDX-License-Identifier: Apache-2.0
// estimate: what a migration would come to, before anything is moved.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

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
    api::EstimateRequest request;
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
        "wire and blackout. Nothing is moved, no destination is asked.\n"
        "Example: wherry estimate a --bandwidth 1200M");
    command->add_option("name", options->name, "The VM to watch")->required();
    command->add_option("--for", options->for_time, "How long to watch it (3s)");
    command->add_option("--downtime", options->downtime, "Longest blackout to aim for (100ms)");
    command->add_option(
        "--bandwidth",
        options->bandwidth,
        "Bytes a second: what the migration may take, and the link's rate where nothing is known\n"
        "of it from an earlier migration of this VM");
    command->add_flag("--json", options->json, "The job as one JSON object");
    command->callback([&action, options] {
        action = [options] {
            return estimate(*options);
        };
    });
}

} // namespace wherry::tools
