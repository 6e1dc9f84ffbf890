// SPDX-License-Identifier: Apache-2.0
// migrate: starts the job in the source's instance, then follows it.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/cli/follow.hpp"
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
    std::string to;
    std::string tls;
    bool insecure = false;
    std::string downtime = "100ms";
    std::string bandwidth;
    std::string deadline;
    std::string streams = "auto";
    std::string on_stall; ///< empty: what the instance takes
    std::string mode = "precopy";
    std::string postcopy_bandwidth;
    std::string arbiter = "local";
    std::string recover_timeout;
    std::string connect_timeout = "5s";
    bool detach = false;
    bool json = false;
};

Result<api::MigrateRequest> request_from(const Options& options) {
    const auto downtime = parse_duration(options.downtime);
    if (!downtime) {
        return formats::fail(downtime.error());
    }
    const auto connect_timeout = parse_duration(options.connect_timeout);
    if (!connect_timeout) {
        return formats::fail(connect_timeout.error());
    }
    const auto bandwidth = parse_optional_size(options.bandwidth);
    if (!bandwidth) {
        return formats::fail(bandwidth.error());
    }
    const auto deadline = parse_optional_duration(options.deadline);
    if (!deadline) {
        return formats::fail(deadline.error());
    }
    const auto postcopy_bandwidth = parse_optional_size(options.postcopy_bandwidth);
    if (!postcopy_bandwidth) {
        return formats::fail(postcopy_bandwidth.error());
    }
    api::MigrateRequest request;
    if (!options.recover_timeout.empty()) {
        const auto limit = parse_duration(options.recover_timeout);
        if (!limit) {
            return formats::fail(limit.error());
        }
        request.set_recover_timeout_ms(static_cast<double>(limit->count()));
    }
    request.set_mode(options.mode);
    request.set_postcopy_bandwidth(static_cast<double>(postcopy_bandwidth->value()));
    request.set_arbiter(options.arbiter);
    request.set_to(options.to);
    if (!options.tls.empty()) {
        // The instance has a working directory of its own.
        request.set_tls_directory(std::filesystem::absolute(options.tls).string());
    }
    request.set_insecure(options.insecure);
    request.set_downtime_ms(static_cast<double>(downtime->count()));
    request.set_connect_timeout_ms(static_cast<double>(connect_timeout->count()));
    request.set_bandwidth(static_cast<double>(bandwidth->value()));
    request.set_deadline_ms(static_cast<double>(deadline->count()));
    request.set_on_stall(options.on_stall);
    if (options.streams != "auto") {
        request.set_streams(static_cast<std::uint32_t>(std::stoul(options.streams)));
    }
    return request;
}

void conclude(const Options& options, const api::Job& job) {
    for (const auto& line : job.plan()) {
        fmt::print(stderr, "wherry: {}\n", line);
    }
    for (const auto& note : job.report().notes()) {
        fmt::print(stderr, "wherry: note: {}\n", note);
    }
    if (job.state() == "done") {
        if (!options.json) {
            fmt::print("{} runs on {}\n{}", options.name, job.peer(), describe_report(job));
        }
        return;
    }
    print_error(error_from(job.failure()));
}

ExitCode migrate(const Options& options) {
    const auto request = request_from(options);
    if (!request) {
        print_error(request.error());
        return ExitCode::usage;
    }
    auto client = ApiClient::connect_to(options.name);
    if (!client) {
        return fail_with(client.error());
    }
    const auto job = client->migrate(*request);
    if (!job) {
        return fail_with(job.error());
    }
    if (options.detach) {
        fmt::print("{}\n", options.json ? to_json(*job, JsonLayout::one_line) : "job " + job->id());
        return ExitCode::done;
    }
    const auto last = follow(*client, *job, {.name = options.name, .json = options.json});
    if (!last) {
        return fail_with(last.error());
    }
    if (!*last) {
        return ExitCode::done;
    }
    conclude(options, **last);
    return exit_code_for(**last);
}

} // namespace

void add_migrate(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand(
        "migrate",
        "Move a running VM to a host that waits with `wherry receive`. Ctrl-C cancels safely,\n"
        "twice leaves the migration running by itself.\n"
        "Example: wherry migrate a --to host2:7461 --tls pki");
    command->add_option("name", options->name, "The VM to move")->required();
    command->add_option("--to", options->to, "host:port of the destination")->required();
    auto* tls = command->add_option(
        "--tls", options->tls, "Directory with ca-cert.pem, client-cert.pem, client-key.pem");
    command
        ->add_flag(
            "--insecure",
            options->insecure,
            "Plain TCP: anyone on the way can read and change the VM")
        ->excludes(tls);
    command->add_option("--downtime", options->downtime, "Longest blackout to aim for (100ms)");
    command->add_option("--bandwidth", options->bandwidth, "Bytes a second at most, like 500M");
    command->add_option(
        "--deadline",
        options->deadline,
        "How long it may take until the guest is stopped, like 5m");
    command
        ->add_option(
            "--on-stall",
            options->on_stall,
            "When the guest dirties faster than the link carries: hybrid (it goes on at the\n"
            "destination, which gets the rest as it needs it), throttle (slow it down), abort (it\n"
            "stays here) or stop (switch over all the same) (hybrid; throttle where the "
            "destination\n"
            "cannot)")
        ->check(CLI::IsMember({"throttle", "abort", "stop", "hybrid"}));
    command
        ->add_option(
            "--mode",
            options->mode,
            "precopy (all memory goes before the guest) or hybrid (all of it once, or less where\n"
            "most would be dirtied meanwhile; the rest follows the guest) (precopy)")
        ->check(CLI::IsMember({"precopy", "hybrid"}));
    command->add_option(
        "--postcopy-bandwidth",
        options->postcopy_bandwidth,
        "Bytes a second at most of what follows the guest, like 500M");
    command->add_option(
        "--arbiter",
        options->arbiter,
        "What decides who has the VM when the connection is lost at the worst moment: local (this\n"
        "host's journal), file:DIR (a directory that both hosts have) or\n"
        "etcd:HOST:PORT[,HOST:PORT...][?tls=DIR], whose DIR has ca-cert.pem, client-cert.pem and\n"
        "client-key.pem on both hosts (local)");
    command->add_option(
        "--recover-timeout",
        options->recover_timeout,
        "How long to try to make a lost connection again once the guest has been given up; then a\n"
        "person decides, with `wherry resolve` (for ever)");
    command
        ->add_option(
            "--streams",
            options->streams,
            "Connections that pages travel on, each with a thread on both sides: auto or 1 to 16 "
            "(auto)")
        ->check(CLI::IsMember({"auto"}) | CLI::Range(1, 16));
    command->add_option(
        "--connect-timeout", options->connect_timeout, "How long to try to connect (5s)");
    command->add_flag("--detach", options->detach, "Return at once; print the job's id");
    command->add_flag("--json", options->json, "One JSON object a line");
    command->callback([&action, options] {
        if (options->tls.empty() && !options->insecure) {
            throw CLI::RequiredError("--tls DIR (or --insecure)");
        }
        action = [options] {
            return migrate(*options);
        };
    });
}

} // namespace wherry::tools
