// SPDX-License-Identifier: Apache-2.0
// demo: the main job, seen whole.
#include "tools/cli/commands.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/trial.hpp"
#include "vmm/partition.hpp"

#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

namespace {

struct Options {
    std::string hypervisor = "auto";
    std::string memory;
    std::string guest;
};

formats::Result<TrialOptions> trial_from(const Options& options) {
    const auto choice = formats::then(vmm::hypervisor_from(options.hypervisor), vmm::probe);
    if (!choice) {
        return formats::fail(choice.error());
    }
    const bool is_soft = choice->name == "soft";
    const auto memory =
        parse_size(!options.memory.empty() ? options.memory : (is_soft ? "256M" : "1G"));
    if (!memory) {
        return formats::fail(memory.error());
    }
    const auto guest = options.guest.empty()
                           ? find_test_guest()
                           : formats::Result<std::filesystem::path>{options.guest};
    if (!guest) {
        return formats::fail(guest.error());
    }
    TrialOptions trial;
    trial.program = own_program();
    trial.guest = *guest;
    trial.hypervisor = choice->name;
    trial.memory = *memory;
    // An interpreted guest has a small part of the speed, and gets that part of the work.
    trial.guest_options = is_soft ? "zero=50 compressible=25 random=25 hot=8M rate=500 check=20000"
                                  : "zero=50 compressible=25 random=25 hot=64M rate=20000";
    return trial;
}

void print_result(const TrialResult& result, const TrialOptions& options) {
    fmt::print(
        "\n  {:<18}{} of memory on {}, {:.0f} pages/s dirtied while it moved\n",
        "guest",
        format_bytes(static_cast<double>(options.memory.value())),
        result.hypervisor,
        result.dirty_rate);
    fmt::print("{}", describe_report(result.job));
    fmt::print(
        "  {:<18}{} by its own clock\n\n",
        "felt by the guest",
        format_duration(result.felt_blackout));
    fmt::print("  {:>6} {:>12} {:>12} {:>12}\n", "pass", "raw", "zero", "time");
    int pass = 0;
    for (const auto& round : result.job.report().passes()) {
        fmt::print(
            "  {:>6} {:>12} {:>12} {:>12}\n",
            ++pass,
            format_bytes(round.raw_page_bytes()),
            format_bytes(round.zero_page_bytes()),
            format_duration(std::chrono::duration<double, std::milli>{round.duration_ms()}));
    }
    fmt::print(
        "\nguest: {} pages checked, {} errors\n", result.guest.pages_checked, result.guest.errors);
}

ExitCode demo(const Options& options) {
    const auto trial = trial_from(options);
    if (!trial) {
        return fail_with(trial.error());
    }
    const bool terminal = ::isatty(STDOUT_FILENO) != 0;
    const TrialObserver observer{
        .step =
            [](const std::string& step) {
                fmt::print("wherry: {}\n", step);
                std::fflush(stdout);
            },
        .progress =
            [terminal](const api::Job& job) {
                if (terminal) {
                    fmt::print("\r\x1b[K{}", job.state() == "running" ? progress_line(job) : "");
                    std::fflush(stdout);
                }
            }};
    fmt::print(
        "wherry: a {} guest that dirties and checks its memory moves between two processes,\n"
        "wherry: over mutual TLS on loopback\n",
        format_bytes(static_cast<double>(trial->memory.value())));
    const auto result = run_trial(*trial, observer);
    if (!result) {
        return fail_with(result.error());
    }
    print_result(*result, *trial);
    return result->guest.errors == 0 && result->guest.pages_checked > 0 ? ExitCode::done
                                                                        : ExitCode::failed;
}

} // namespace

void add_demo(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand(
        "demo",
        "Move a busy test guest between two processes of this host and check it.\n"
        "Example: wherry demo --hypervisor soft");
    command->add_option(
        "--hypervisor", options->hypervisor, "auto, " + std::string{vmm::hypervisor_names()});
    command->add_option("--memory", options->memory, "RAM of the guest (1G; 256M on soft)");
    command->add_option("--guest", options->guest, "The test guest's ELF")
        ->check(CLI::ExistingFile);
    command->callback([&action, options] {
        action = [options] {
            return demo(*options);
        };
    });
}

} // namespace wherry::tools
