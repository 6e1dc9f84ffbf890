// SPDX-License-Identifier: Apache-2.0
// Live snapshots of the test guest, as each layout.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/benchmarks/samples.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/trial.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

struct SnapshotOptions {
    std::string hypervisor = "auto";
    std::string memory = "4G";
    std::string hot = "64M";
    std::string downtime = "100ms";
    std::string directory = std::filesystem::temp_directory_path();
    unsigned zero_percent = 50;
    unsigned rate = 20'000;
    unsigned runs = 5;
};

formats::Result<SnapshotTrialOptions> trial_from(const SnapshotOptions& options) {
    const auto memory = parse_size(options.memory);
    const auto downtime = parse_duration(options.downtime);
    const auto guest = find_test_guest();
    if (!memory || !downtime || !guest) {
        return formats::fail(
            !memory     ? memory.error()
            : !downtime ? downtime.error()
                        : guest.error());
    }
    SnapshotTrialOptions trial;
    trial.directory = options.directory;
    trial.guest.program = own_program().parent_path() / "wherry";
    trial.guest.guest = *guest;
    trial.guest.hypervisor = options.hypervisor;
    trial.guest.memory = *memory;
    trial.guest.downtime = *downtime;
    const unsigned rest = 100 - options.zero_percent;
    // As the guest that is moved by `tools/bench migrate`.
    trial.guest.guest_options = fmt::format(
        "zero={} compressible={} random={} hot={} rate={} check=50000",
        options.zero_percent,
        rest / 2,
        rest - rest / 2,
        options.hot,
        options.rate);
    return trial;
}

/// In the order of the names below.
std::vector<double> figures_of(const SnapshotTrialResult& result, formats::Bytes memory) {
    constexpr auto gib = static_cast<double>(1U << 30U);
    const auto& report = result.job.report();
    return {
        report.total_ms(),
        static_cast<double>(memory.value()) / gib / (report.total_ms() / 1000),
        report.wire_bytes() / gib,
        static_cast<double>(report.rounds()),
        report.blackout_ms(),
        static_cast<double>(result.longest_gap.count()) / 1000};
}

ExitCode snapshot(const SnapshotOptions& options) {
    auto trial = trial_from(options);
    if (!trial) {
        return fail_with(trial.error());
    }
    for (const std::string_view layout : {"raw", "zstd"}) {
        trial->layout = layout;
        Samples samples{
            {"total_ms",
             "memory_GiB_per_s",
             "file_GiB",
             "passes",
             "blackout_ms",
             "guest_longest_gap_ms"},
            fmt::format("\"layout\":\"{}\",", layout)};
        for (unsigned run = 0; run < options.runs; ++run) {
            const auto result = run_snapshot_trial(*trial, silent_observer());
            if (!result) {
                return fail_with(result.error());
            }
            if (const auto well = found_no_errors(result->guest); !well) {
                return fail_with(well.error());
            }
            samples.add(figures_of(*result, trial->guest.memory));
        }
        samples.print_medians();
    }
    return ExitCode::done;
}

} // namespace

void add_snapshot(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<SnapshotOptions>();
    auto* command = app.add_subcommand(
        "snapshot", "Live snapshots, raw and zstd: rates, blackout felt by the guest");
    command->option_defaults()->always_capture_default();
    command->add_option("--hypervisor", options->hypervisor, "auto, kvm or soft");
    command->add_option("--memory", options->memory, "RAM of the guest");
    command->add_option("--zero", options->zero_percent, "Percent of it that is zero pages")
        ->check(CLI::Range(0, 100));
    command->add_option("--hot", options->hot, "Size of the hot set");
    command->add_option("--rate", options->rate, "Pages a second dirtied in the hot set");
    command->add_option("--downtime", options->downtime, "The blackout aimed at");
    command->add_option("--directory", options->directory, "Where the images are made")
        ->check(CLI::ExistingDirectory);
    command->add_option("--runs", options->runs, "How often")->check(CLI::Range(1, 1000));
    command->callback([options, &outcome] { outcome = snapshot(*options); });
}

} // namespace wherry::tools
