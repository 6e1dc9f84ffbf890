// SPDX-License-Identifier: Apache-2.0
// ps and status.
#include "tools/api_client.hpp"
#include "tools/cli/commands.hpp"
#include "tools/instance/registry.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

namespace {

ExitCode ps(bool json) {
    std::vector<api::Vm> vms;
    for (const auto& name : list_instances()) {
        auto vm = formats::then(
            ApiClient::connect_to(name), [](ApiClient client) { return client.vm(); });
        if (!vm && (vm.error().code() == formats::ErrorCode::not_found ||
                    vm.error().code() == formats::ErrorCode::connection_lost)) {
            continue; // it ended while we looked
        }
        if (!vm) {
            api::Vm silent;
            silent.set_name(name);
            silent.set_state("silent");
            silent.set_explanation(vm.error().text());
            vms.push_back(std::move(silent));
            continue;
        }
        vms.push_back(*std::move(vm));
    }
    if (json) {
        for (const auto& vm : vms) {
            fmt::print("{}\n", to_json(vm, JsonLayout::one_line));
        }
        return ExitCode::done;
    }
    fmt::print(
        "{:<16} {:<11} {:<10} {:>5} {:>9} {:>8}\n",
        "NAME",
        "STATE",
        "HYPERVISOR",
        "VCPUS",
        "MEMORY",
        "PID");
    for (const auto& vm : vms) {
        fmt::print(
            "{:<16} {:<11} {:<10} {:>5} {:>9} {:>8}\n",
            vm.name(),
            vm.state(),
            vm.hypervisor().empty() ? "-" : vm.hypervisor(),
            vm.vcpus(),
            vm.memory_bytes() > 0 ? format_bytes(vm.memory_bytes()) : "-",
            vm.pid());
    }
    return ExitCode::done;
}

std::string describe_result(const api::Job& job) {
    return job.kind() == "estimate" ? describe_estimate(job.estimate()) : describe_report(job);
}

void print_vm(const api::Vm& vm) {
    fmt::print("{}: {}\n", vm.name(), vm.state());
    if (!vm.explanation().empty()) {
        fmt::print("  {}\n", vm.explanation());
    }
    if (vm.vcpus() > 0) {
        fmt::print(
            "  {} on {}, {} vCPUs, process {}\n",
            format_bytes(vm.memory_bytes()),
            vm.hypervisor(),
            vm.vcpus(),
            vm.pid());
    }
    if (!vm.listen().empty()) {
        fmt::print("  listens on {}\n", vm.listen());
    }
    const auto& job = vm.job();
    if (job.id().empty()) {
        return;
    }
    if (job.kind() == "estimate") {
        fmt::print("  job {}: estimate of a migration\n", job.id());
    } else if (job.kind() == "snapshot") {
        fmt::print("  job {}: snapshot to {}\n", job.id(), job.peer());
    } else {
        fmt::print(
            "  job {}: {} {} {}, {} the commit point\n",
            job.id(),
            job.kind(),
            job.kind() == "migrate" ? "to" : "from",
            job.peer(),
            job.commit_point());
    }
    fmt::print(
        "  {}: {}\n",
        job.state(),
        job.state() == "running" ? progress_line(job) : job.failure().text());
    if (job.state() == "done") {
        fmt::print("{}", describe_result(job));
    }
}

ExitCode watch(ApiClient& client, const api::Vm& vm, bool json) {
    const bool terminal = ::isatty(STDOUT_FILENO) != 0;
    const auto each = [&](const api::Job& job) {
        if (json) {
            fmt::print("{}\n", to_json(job, JsonLayout::one_line));
        } else if (terminal) {
            fmt::print("\r\x1b[K{}", progress_line(job));
        } else {
            fmt::print("{}\n", progress_line(job));
        }
        std::fflush(stdout);
        return true;
    };
    const auto last = client.watch(vm.job().id(), each);
    if (!json && terminal) {
        fmt::print("\n");
    }
    if (!last) {
        return fail_with(last.error());
    }
    if (!json) {
        fmt::print("{}\n{}", last->state(), last->state() == "done" ? describe_result(*last) : "");
    }
    return exit_code_for(*last);
}

ExitCode status(const std::string& name, bool follow, bool json) {
    auto client = ApiClient::connect_to(name);
    if (!client) {
        return fail_with(client.error());
    }
    const auto vm = client->vm();
    if (!vm) {
        return fail_with(vm.error());
    }
    if (follow && !vm->job().id().empty()) {
        return watch(*client, *vm, json);
    }
    if (json) {
        fmt::print("{}\n", to_json(*vm, JsonLayout::one_line));
    } else {
        print_vm(*vm);
    }
    return ExitCode::done;
}

} // namespace

void add_inspection(CLI::App& app, Action& action) {
    struct Options {
        std::string name;
        bool json = false;
        bool watch = false;
    };
    const auto options = std::make_shared<Options>();

    auto* ps_command = app.add_subcommand("ps", "List the VMs of this host. Example: wherry ps");
    ps_command->add_flag("--json", options->json, "One JSON object a line");
    ps_command->callback([&action, options] {
        action = [options] {
            return ps(options->json);
        };
    });

    auto* status_command = app.add_subcommand(
        "status", "Show a VM and its migration. Example: wherry status a --watch");
    status_command->add_option("name", options->name, "The VM")->required();
    status_command->add_flag("--watch", options->watch, "Follow its job until it is over");
    status_command->add_flag("--json", options->json, "JSON; while watching, an object a line");
    status_command->callback([&action, options] {
        action = [options] {
            return status(options->name, options->watch, options->json);
        };
    });
}

} // namespace wherry::tools
