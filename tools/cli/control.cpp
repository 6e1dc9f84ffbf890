// SPDX-License-Identifier: Apache-2.0
// pause, resume, cancel, postcopy, kill, resolve: one call each to the instance.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/instance/offline_resolve.hpp"
#include "tools/json.hpp"

#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

using Call = formats::Result<api::Vm> (ApiClient::*)();

struct SimpleVerb {
    const char* verb;
    const char* help;
    const char* done; ///< "{}: paused"
    Call call;
};

constexpr SimpleVerb simple_verbs[] = {
    {"pause", "Stop a VM's vCPUs. Example: wherry pause a", "paused", &ApiClient::pause},
    {"resume", "Let a paused VM go on. Example: wherry resume a", "running", &ApiClient::resume},
    {"kill",
     "End a VM at once, as by pulling its plug. Example: wherry kill a",
     "ended",
     &ApiClient::kill},
};

ExitCode run_simple(const SimpleVerb& verb, const std::string& name) {
    auto outcome = formats::then(
        ApiClient::connect_to(name), [&verb](ApiClient client) { return (client.*verb.call)(); });
    if (!outcome) {
        return fail_with(outcome.error());
    }
    fmt::print("{}: {}\n", name, verb.done);
    return ExitCode::done;
}

ExitCode cancel(const std::string& name) {
    auto client = ApiClient::connect_to(name);
    if (!client) {
        return fail_with(client.error());
    }
    auto job = formats::then(client->vm(), [&](const api::Vm& vm) -> formats::Result<api::Job> {
        if (vm.job().id().empty()) {
            return formats::fail(
                formats::ErrorCode::wrong_state, vm.name() + " has no job to cancel");
        }
        return client->cancel(vm.job().id());
    });
    if (job) {
        job = client->watch(job->id(), [](const api::Job&) { return true; });
    }
    if (!job) {
        return fail_with(job.error());
    }
    if (job->state() != "cancelled") {
        fmt::print(stderr, "wherry: too late, the job is {}\n", job->state());
        return ExitCode::failed;
    }
    fmt::print("{}: cancelled; the VM goes on here\n", name);
    return ExitCode::done;
}

ExitCode switch_to_postcopy(const std::string& name, bool json) {
    auto client = ApiClient::connect_to(name);
    if (!client) {
        return fail_with(client.error());
    }
    const auto job =
        formats::then(client->vm(), [&](const api::Vm& vm) -> formats::Result<api::Job> {
            if (vm.job().id().empty()) {
                return formats::fail(
                    formats::ErrorCode::wrong_state,
                    fmt::format(
                        "{0} is not being migrated; to move it by post-copy: wherry migrate {0} "
                        "--mode hybrid",
                        name));
            }
            return client->switch_to_postcopy(vm.job().id());
        });
    if (!job) {
        return fail_with(job.error());
    }
    if (json) {
        fmt::print("{}\n", to_json(*job, JsonLayout::one_line));
    } else {
        fmt::print("{}: goes on at the destination; the memory that is missing follows\n", name);
    }
    return ExitCode::done;
}

ExitCode resolve(const std::string& name, const api::ResolveRequest& request) {
    auto client = ApiClient::connect_to(name);
    if (!client && client.error().code() == formats::ErrorCode::not_found) {
        return resolve_offline(name, request);
    }
    auto vm = formats::then(
        std::move(client), [&request](ApiClient there) { return there.resolve(request); });
    if (!vm) {
        return fail_with(vm.error());
    }
    fmt::print("{}: {}\n", name, vm->state());
    return ExitCode::done;
}

} // namespace

void add_control(CLI::App& app, Action& action) {
    const auto name = std::make_shared<std::string>();
    for (const auto& verb : simple_verbs) {
        auto* command = app.add_subcommand(verb.verb, verb.help);
        command->add_option("name", *name, "The VM")->required();
        command->callback([&action, &verb, name] {
            action = [&verb, name] {
                return run_simple(verb, *name);
            };
        });
    }

    auto* cancel_command = app.add_subcommand(
        "cancel",
        "Give a running migration, estimate or snapshot up; the VM goes on where it is. Possible "
        "until "
        "the\n"
        "hand-over.\n"
        "Example: wherry cancel a");
    cancel_command->add_option("name", *name, "The VM whose migration to cancel")->required();
    cancel_command->callback([&action, name] {
        action = [name] {
            return cancel(*name);
        };
    });

    auto* postcopy_command = app.add_subcommand(
        "postcopy",
        "Let the guest of a migration under way go on at the destination now: the memory that has\n"
        "not been sent, or was changed since, follows it. From then on it needs both hosts until "
        "all\n"
        "of it is there.\n"
        "Example: wherry postcopy a");
    const auto json = std::make_shared<bool>(false);
    postcopy_command->add_option("name", *name, "The VM that is being migrated")->required();
    postcopy_command->add_flag("--json", *json, "The job as one JSON object");
    postcopy_command->callback([&action, name, json] {
        action = [name, json] {
            return switch_to_postcopy(*name, *json);
        };
    });

    auto* resolve_command = app.add_subcommand(
        "resolve",
        "End the doubt of a VM whose hand-over lost its connection, on this host. Look at the\n"
        "other host first: whichever side is not kept must not run.\n"
        "Example: wherry resolve a --keep source");
    const auto keep = std::make_shared<std::string>();
    resolve_command->add_option("name", *name, "The VM in doubt")->required();
    resolve_command->add_option("--keep", *keep, "The side whose VM lives on")
        ->required()
        ->check(CLI::IsMember({"source", "destination"}));
    const auto fenced = std::make_shared<bool>(false);
    auto* const fenced_flag = resolve_command->add_flag(
        "--fenced",
        *fenced,
        "The destination's host is dead for good: overrules what a shared arbiter has committed");
    const auto no_arbiter = std::make_shared<bool>(false);
    resolve_command
        ->add_flag(
            "--no-arbiter",
            *no_arbiter,
            "The shared arbiter is gone for good: decide without it, as with --arbiter local.\n"
            "Refused while it answers")
        ->excludes(fenced_flag);
    resolve_command->callback([&action, name, keep, fenced, no_arbiter] {
        action = [name, keep, fenced, no_arbiter] {
            api::ResolveRequest request;
            request.set_keep(*keep);
            request.set_fenced(*fenced);
            request.set_no_arbiter(*no_arbiter);
            return resolve(*name, request);
        };
    });
}

} // namespace wherry::tools
