// SPDX-License-Identifier: Apache-2.0
// How soon a guest that was slowed down for its migration is itself again after a cancel.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/benchmarks/samples.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/trial.hpp"

#include <cstdint>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

struct CancelOptions {
    std::string hypervisor = "auto";
    std::string memory = "256M";
    std::string hot = "128M";
    std::string bandwidth = "100M";
    std::uint32_t throttle = 50;
    unsigned rate = 150'000;
    unsigned runs = 5;
};

formats::Result<TrialOptions> trial_from(const CancelOptions& options) {
    const auto memory = parse_size(options.memory);
    if (!memory) {
        return formats::fail(memory.error());
    }
    const auto bandwidth = parse_size(options.bandwidth);
    if (!bandwidth) {
        return formats::fail(bandwidth.error());
    }
    auto guest = find_test_guest();
    if (!guest) {
        return formats::fail(std::move(guest).error());
    }
    TrialOptions trial;
    trial.program = own_program().parent_path() / "wherry";
    trial.guest = *std::move(guest);
    trial.hypervisor = options.hypervisor;
    trial.memory = *memory;
    trial.bandwidth = *bandwidth;
    trial.downtime = std::chrono::milliseconds{100};
    trial.mode = "precopy";
    trial.on_stall = "throttle";
    trial.settle = std::chrono::seconds{2};
    trial.guest_options = fmt::format(
        "zero=0 compressible=50 random=50 hot={} rate={} check=0 report=50",
        options.hot,
        options.rate);
    return trial;
}

ExitCode cancel(const CancelOptions& options) {
    const auto trial = trial_from(options);
    if (!trial) {
        return fail_with(trial.error());
    }
    Samples samples{
        {"throttle_percent",
         "answered_ms",
         "recovered_ms",
         "pages_per_s_before",
         "pages_per_s_meanwhile",
         "pages_per_s_after"}};
    for (unsigned run = 0; run < options.runs; ++run) {
        const auto result = run_cancel_trial(*trial, options.throttle, silent_observer());
        if (!result) {
            return fail_with(result.error());
        }
        if (const auto well = found_no_errors(result->guest); !well) {
            return fail_with(well.error());
        }
        samples.add(
            {static_cast<double>(result->throttle_percent),
             static_cast<double>(result->answered.count()),
             static_cast<double>(result->recovered.count()),
             result->rate_before,
             result->rate_meanwhile,
             result->rate_after});
    }
    samples.print_medians();
    return ExitCode::done;
}

} // namespace

void add_cancel(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<CancelOptions>();
    auto* command = app.add_subcommand(
        "cancel", "A migration that slows the guest down, cancelled: until it is itself again");
    command->option_defaults()->always_capture_default();
    command->add_option("--hypervisor", options->hypervisor, "auto, kvm or soft");
    command->add_option("--memory", options->memory, "RAM of the guest");
    command->add_option("--hot", options->hot, "Size of the hot set");
    command->add_option("--bandwidth", options->bandwidth, "Bytes a second of the migration");
    command->add_option("--rate", options->rate, "Pages a second dirtied in the hot set");
    command->add_option("--throttle", options->throttle, "Percent at which the cancel is sent")
        ->check(CLI::Range(1, 99));
    command->add_option("--runs", options->runs, "How often")->check(CLI::Range(1, 1000));
    command->callback([options, &outcome] { outcome = cancel(*options); });
}

} // namespace wherry::tools
