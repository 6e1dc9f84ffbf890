// SPDX-License-Identifier: Apache-2.0
// Whole migrations of the test guest between two processes on this machine.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/trial.hpp"

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

struct MigrationOptions {
    std::string hypervisor = "auto";
    std::string memory = "4G";
    std::string hot = "64M";
    std::string downtime = "100ms";
    unsigned zero_percent = 50;
    unsigned rate = 20'000;
    unsigned streams = 0;
    unsigned runs = 5;
    bool is_cold = false;
};

formats::Result<TrialOptions> trial_from(const MigrationOptions& options) {
    const auto memory = parse_size(options.memory);
    const auto downtime = parse_duration(options.downtime);
    const auto guest = find_test_guest();
    if (!memory) {
        return formats::fail(memory.error());
    }
    if (!downtime) {
        return formats::fail(downtime.error());
    }
    if (!guest) {
        return formats::fail(guest.error());
    }
    TrialOptions trial;
    trial.program = own_program().parent_path() / "wherry";
    trial.guest = *guest;
    trial.hypervisor = options.hypervisor;
    trial.memory = *memory;
    trial.downtime = *downtime;
    trial.streams = options.streams;
    trial.warmed_memory = options.is_cold ? formats::Bytes{0} : *memory;
    const unsigned rest = 100 - options.zero_percent;
    // The guest checks itself slower than by default, to leave the processors to what is measured.
    trial.guest_options = fmt::format(
        "zero={} compressible={} random={} hot={} rate={} check=50000",
        options.zero_percent,
        rest / 2,
        rest - rest / 2,
        options.hot,
        options.rate);
    return trial;
}

/// One line of JSON for the run, and what the medians are taken of.
struct Sample {
    double total_ms, effective_rate, wire_rate, blackout_ms, felt_ms, longest_gap_ms, dirty_rate;
};

Sample sample_of(const TrialResult& result) {
    const auto& report = result.job.report();
    return {
        .total_ms = report.total_ms(),
        .effective_rate = report.effective_rate(),
        .wire_rate = report.wire_rate(),
        .blackout_ms = report.blackout_ms(),
        .felt_ms = static_cast<double>(result.felt_blackout.count()) / 1000,
        .longest_gap_ms = static_cast<double>(result.longest_gap.count()) / 1000,
        .dirty_rate = result.dirty_rate};
}

void print_sample(std::string_view label, const Sample& sample) {
    fmt::print(
        "{{\"run\":\"{}\",\"total_ms\":{:.1f},\"effective_GiB_per_s\":{:.3f},"
        "\"wire_GiB_per_s\":{:.3f},\"blackout_ms\":{:.2f},\"guest_felt_blackout_ms\":{:.2f},"
        "\"guest_longest_gap_ms\":{:.2f},\"dirty_pages_per_s\":{:.0f}}}\n",
        label,
        sample.total_ms,
        sample.effective_rate / static_cast<double>(1U << 30U),
        sample.wire_rate / static_cast<double>(1U << 30U),
        sample.blackout_ms,
        sample.felt_ms,
        sample.longest_gap_ms,
        sample.dirty_rate);
    std::fflush(stdout);
}

void print_medians(const std::vector<Sample>& samples) {
    const auto median_of = [&samples](double Sample::* field) {
        std::vector<double> values;
        for (const auto& sample : samples) {
            values.push_back(sample.*field);
        }
        return median(std::move(values));
    };
    print_sample(
        "median",
        {.total_ms = median_of(&Sample::total_ms),
         .effective_rate = median_of(&Sample::effective_rate),
         .wire_rate = median_of(&Sample::wire_rate),
         .blackout_ms = median_of(&Sample::blackout_ms),
         .felt_ms = median_of(&Sample::felt_ms),
         .longest_gap_ms = median_of(&Sample::longest_gap_ms),
         .dirty_rate = median_of(&Sample::dirty_rate)});
}

ExitCode migrate(const MigrationOptions& options) {
    const auto trial = trial_from(options);
    if (!trial) {
        return fail_with(trial.error());
    }
    const TrialObserver silent{
        .step = [](const std::string&) {},
        .progress =
            [](const api::Job&) {
            }};
    std::vector<Sample> samples;
    for (unsigned run = 1; run <= options.runs; ++run) {
        const auto result = run_trial(*trial, silent);
        if (!result) {
            return fail_with(result.error());
        }
        if (result->guest.errors != 0) {
            return fail_with(formats::Error{
                formats::ErrorCode::corrupted,
                fmt::format("the guest found {} errors", result->guest.errors)});
        }
        samples.push_back(sample_of(*result));
        print_sample(fmt::format("{}", run), samples.back());
    }
    print_medians(samples);
    return ExitCode::done;
}

} // namespace

void add_migration(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<MigrationOptions>();
    auto* command = app.add_subcommand("migrate", "Total time, rates, blackout felt by the guest");
    command->add_option("--hypervisor", options->hypervisor, "auto, kvm or soft");
    command->add_option("--memory", options->memory, "RAM of the guest (4G)");
    command->add_option("--zero", options->zero_percent, "Percent of it that is zero pages (50)")
        ->check(CLI::Range(0, 100));
    command->add_option("--hot", options->hot, "Size of the hot set (64M)");
    command->add_option("--rate", options->rate, "Pages a second dirtied in the hot set (20000)");
    command->add_option("--downtime", options->downtime, "The blackout aimed at (100ms)");
    command->add_option("--streams", options->streams, "Connections for pages (0: auto)")
        ->check(CLI::Range(0, 16));
    command->add_option("--runs", options->runs, "How often (5)")->check(CLI::Range(1, 1000));
    command->add_flag(
        "--cold",
        options->is_cold,
        "Do not touch as much host memory first: counts what a virtual host's own host takes for "
        "it");
    command->callback([options, &outcome] { outcome = migrate(*options); });
}

} // namespace wherry::tools
