// SPDX-License-Identifier: Apache-2.0
// snapshot: starts the job in the VM's instance, then follows it; or passes its stream on.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/cli/follow.hpp"
#include "tools/cli/image_files.hpp"
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
    NewImage image;
    std::string base;
    std::string bases;
    bool replace = false;
    bool json = false;

    [[nodiscard]] bool is_streamed() const { return file == standard_output; }
};

/// The instance has a working directory of its own.
std::string absolute(const std::string& path) {
    return path.empty() ? path : std::filesystem::absolute(path).string();
}

Result<api::SnapshotRequest> request_from(const Options& options) {
    const auto downtime = parse_duration(options.downtime);
    if (!downtime) {
        return formats::fail(downtime.error());
    }
    api::SnapshotRequest request;
    if (!options.is_streamed()) {
        request.set_file(absolute(options.file));
    }
    request.set_way(options.is_paused ? "paused" : "live");
    request.set_downtime_ms(static_cast<double>(downtime->count()));
    request.set_replace(options.replace);
    request.set_layout(options.image.layout);
    request.set_level(options.image.level);
    request.set_encrypt(absolute(options.image.key));
    request.set_sign(absolute(options.image.signing_key));
    request.set_base(absolute(options.base));
    request.set_bases(absolute(options.bases));
    return request;
}

/// A restore looks for it beside the image that is based on it.
void tell_where_base_is(const Options& options) {
    const auto base = std::filesystem::absolute(options.base).parent_path();
    if (options.is_streamed() || std::filesystem::absolute(options.file).parent_path() != base) {
        fmt::print(
            stderr,
            "wherry: note: it is restored together with {}: --bases {}\n",
            options.base,
            base.string());
    }
}

ExitCode conclude(const Options& options, const api::Job& job) {
    for (const auto& note : job.report().notes()) {
        fmt::print(stderr, "wherry: note: {}\n", note);
    }
    if (job.state() != "done") {
        print_error(error_from(job.failure()));
        return exit_code_for(job);
    }
    if (!options.base.empty()) {
        tell_where_base_is(options);
    }
    if (!options.json) {
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
        "          wherry snapshot a b.wimg --base a.wimg\n"
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
    add_new_image(*command, options->image);
    auto* base = command->add_option(
        "--base",
        options->base,
        "An image of this VM, with the same key if it is encrypted: write only what differs from "
        "it");
    command->add_option("--bases", options->bases, "Where its own bases are, if not beside it")
        ->needs(base);
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
