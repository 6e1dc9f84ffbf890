// SPDX-License-Identifier: Apache-2.0
// snapshot: starts the job in the VM's instance, then follows it; or passes its stream on.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/cli/follow.hpp"
#include "tools/cli/stream_relay.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

namespace {

using formats::ErrorCode;
using formats::Result;

constexpr const char* standard_output = "-";

struct Options {
    std::string name;
    std::string file;
    bool is_live = false;
    bool is_paused = false;
    std::string downtime = "100ms";
    std::string layout = "zstd";
    std::optional<int> level;
    bool replace = false;
    bool json = false;

    [[nodiscard]] bool is_streamed() const { return file == standard_output; }
};

Result<api::SnapshotRequest> request_from(const Options& options) {
    const auto downtime = parse_duration(options.downtime);
    if (!downtime) {
        return formats::fail(downtime.error());
    }
    api::SnapshotRequest request;
    if (!options.is_streamed()) {
        // The instance has a working directory of its own.
        request.set_file(std::filesystem::absolute(options.file).string());
    }
    request.set_way(options.is_paused ? "paused" : "live");
    request.set_downtime_ms(static_cast<double>(downtime->count()));
    request.set_replace(options.replace);
    request.set_layout(options.layout);
    if (options.level) {
        request.set_level(*options.level);
    }
    return request;
}

ExitCode conclude(const Options& options, const api::Job& job) {
    for (const auto& note : job.report().notes()) {
        fmt::print(stderr, "wherry: note: {}\n", note);
    }
    if (job.state() != "done") {
        print_error(error_from(job.failure()));
    } else if (!options.json) {
        fmt::print(
            options.is_streamed() ? stderr : stdout,
            "{} is in {}\n{}",
            options.name,
            job.peer(),
            describe_report(job));
    }
    return exit_code_for(job);
}

ExitCode follow_to_file(const Options& options, const api::SnapshotRequest& request) {
    auto client = ApiClient::connect_to(options.name);
    if (!client) {
        return fail_with(client.error());
    }
    const auto job = client->snapshot(request);
    if (!job) {
        return fail_with(job.error());
    }
    const auto last = follow(*client, *job, {.name = options.name, .json = options.json});
    if (!last) {
        return fail_with(last.error());
    }
    return *last ? conclude(options, **last) : ExitCode::done;
}

ExitCode follow_to_stream(const Options& options, api::SnapshotRequest request) {
    if (::isatty(STDOUT_FILENO) != 0) {
        return fail_with(
            {ErrorCode::invalid_argument, "an image is nothing for a terminal: send it elsewhere"});
    }
    auto client = ApiClient::connect_to(options.name);
    if (!client) {
        return fail_with(client.error());
    }
    auto relay = StreamRelay::open(STDOUT_FILENO);
    if (!relay) {
        return fail_with(relay.error());
    }
    request.set_stream(true);
    request.set_file(relay->path().string());
    const auto job = client->snapshot(request);
    if (!job) {
        return fail_with(job.error());
    }
    relay->start();
    const auto last =
        follow(*client, *job, {.name = options.name, .json = options.json, .out = stderr});
    // Whatever came of the job: its end of the stream is closed, or its process is gone.
    const auto relayed = relay->finish();
    if (!last) {
        return fail_with(last.error());
    }
    if (*last && (*last)->state() == "done" && !relayed) {
        return fail_with(relayed.error());
    }
    return *last ? conclude(options, **last) : ExitCode::cancelled;
}

ExitCode snapshot(const Options& options) {
    const auto request = request_from(options);
    if (!request) {
        print_error(request.error());
        return ExitCode::usage;
    }
    return options.is_streamed() ? follow_to_stream(options, *request)
                                 : follow_to_file(options, *request);
}

} // namespace

void add_snapshot(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand(
        "snapshot",
        "Write a VM to a file, from which `wherry restore` makes a new one as it is now. The VM "
        "goes\n"
        "on. Ctrl-C cancels, twice leaves the snapshot running by itself.\n"
        "Examples: wherry snapshot a a.wimg\n"
        "          wherry snapshot a - | ssh host2 wherry restore - --name a2");
    command->add_option("name", options->name, "The VM")->required();
    command
        ->add_option(
            "file", options->file, "The image to make, on the VM's host; - is standard output")
        ->required();
    auto* live = command->add_flag(
        "--live",
        options->is_live,
        "The VM runs meanwhile, but for one short stop at the end (the default)");
    command
        ->add_flag(
            "--paused", options->is_paused, "The VM stands still while its memory is written")
        ->excludes(live);
    command->add_option("--downtime", options->downtime, "Longest stop to aim for (100ms)");
    command
        ->add_option(
            "--layout",
            options->layout,
            "zstd (compressed in small chunks) or raw (as memory is) (zstd)")
        ->check(CLI::IsMember({"zstd", "raw"}));
    command->add_option("--level", options->level, "Of zstd: higher is smaller, and slower (1)");
    command->add_flag(
        "--replace",
        options->replace,
        "Where there is such a file: it is intact until the new one is whole");
    command->add_flag("--json", options->json, "One JSON object a line");
    command->callback([&action, options] {
        action = [options] {
            return snapshot(*options);
        };
    });
}

} // namespace wherry::tools
