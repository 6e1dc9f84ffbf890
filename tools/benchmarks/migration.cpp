// SPDX-License-Identifier: Apache-2.0
// Whole migrations of the test guest between two processes on this machine.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/trial.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
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
    std::string mode = "precopy";
    unsigned zero_percent = 50;
    unsigned rate = 20'000;
    unsigned streams = 0;
    unsigned runs = 5;
    bool is_cold = false;
    /// Each run moves the same guest once more, before that, without anything being dirtied.
    bool has_reference = false;
};

/// Does not converge by itself.
MigrationOptions hybrid_defaults() {
    return {
        .memory = "2G",
        .hot = "1G",
        .downtime = "10ms",
        .mode = "hybrid",
        .zero_percent = 0,
        .rate = 150'000,
        .has_reference = true};
}

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
    trial.mode = options.mode;
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

/// What is measured, in the order in which it is printed.
enum Figure : std::uint8_t {
    total,
    effective_rate,
    wire_rate,
    wire_bytes,
    blackout,
    felt_blackout,
    longest_gap,
    dirty_rate,
    faults,
    fault_median,
    fault_p99,
    reference,
    ratio,
};
constexpr std::array names{
    "total_ms",
    "effective_GiB_per_s",
    "wire_GiB_per_s",
    "wire_GiB",
    "blackout_ms",
    "guest_felt_blackout_ms",
    "guest_longest_gap_ms",
    "dirty_pages_per_s",
    "faults",
    "fault_p50_ms",
    "fault_p99_ms",
    "full_copy_ms",
    "total_per_full_copy"};
using Sample = std::array<double, names.size()>;

Sample sample_of(const TrialResult& result, double reference_ms) {
    constexpr auto gib = static_cast<double>(1U << 30U);
    const auto& report = result.job.report();
    Sample sample{};
    sample[total] = report.total_ms();
    sample[effective_rate] = report.effective_rate() / gib;
    sample[wire_rate] = report.wire_rate() / gib;
    sample[wire_bytes] = report.wire_bytes() / gib;
    sample[blackout] = report.blackout_ms();
    sample[felt_blackout] = static_cast<double>(result.felt_blackout.count()) / 1000;
    sample[longest_gap] = static_cast<double>(result.longest_gap.count()) / 1000;
    sample[dirty_rate] = result.dirty_rate;
    sample[faults] = report.faults().count();
    sample[fault_median] = report.faults().median_ms();
    sample[fault_p99] = report.faults().p99_ms();
    sample[reference] = reference_ms;
    sample[ratio] = reference_ms > 0 ? report.total_ms() / reference_ms : 0;
    return sample;
}

void print_sample(std::string_view label, const Sample& sample) {
    std::string text = fmt::format("{{\"run\":\"{}\"", label);
    for (std::size_t i = 0; i < names.size(); ++i) {
        text += fmt::format(",\"{}\":{:.3f}", names[i], sample[i]);
    }
    fmt::print("{}}}\n", text);
    std::fflush(stdout);
}

Sample medians_of(const std::vector<Sample>& samples) {
    Sample medians{};
    for (std::size_t i = 0; i < medians.size(); ++i) {
        std::vector<double> values;
        for (const auto& sample : samples) {
            values.push_back(sample[i]);
        }
        medians[i] = median(std::move(values));
    }
    return medians;
}

formats::Result<TrialResult> run_quietly(const TrialOptions& trial) {
    const TrialObserver silent{
        .step = [](const std::string&) {},
        .progress =
            [](const api::Job&) {
            }};
    auto result = run_trial(trial, silent);
    if (result && result->guest.errors != 0) {
        return formats::fail(
            formats::ErrorCode::corrupted,
            fmt::format("the guest found {} errors", result->guest.errors));
    }
    return result;
}

/// How long it takes to copy the same guest once, while it dirties nothing.
formats::Result<double> measure_full_copy(MigrationOptions options) {
    options.rate = 0;
    options.mode = "precopy";
    return formats::then(trial_from(options), [](const TrialOptions& trial) {
        return formats::then(
            run_quietly(trial), [](const TrialResult& result) -> formats::Result<double> {
                return result.job.report().total_ms();
            });
    });
}

ExitCode migrate(const MigrationOptions& options) {
    const auto trial = trial_from(options);
    if (!trial) {
        return fail_with(trial.error());
    }
    std::vector<Sample> samples;
    for (unsigned run = 1; run <= options.runs; ++run) {
        double reference_ms = 0;
        if (options.has_reference) {
            const auto full_copy = measure_full_copy(options);
            if (!full_copy) {
                return fail_with(full_copy.error());
            }
            reference_ms = *full_copy;
        }
        const auto result = run_quietly(*trial);
        if (!result) {
            return fail_with(result.error());
        }
        samples.push_back(sample_of(*result, reference_ms));
        print_sample(fmt::format("{}", run), samples.back());
    }
    print_sample("median", medians_of(samples));
    return ExitCode::done;
}

void add_command(
    CLI::App& app,
    const char* name,
    const char* help,
    const MigrationOptions& defaults,
    ExitCode& outcome) {
    const auto options = std::make_shared<MigrationOptions>(defaults);
    auto* command = app.add_subcommand(name, help);
    command->option_defaults()->always_capture_default();
    command->add_option("--hypervisor", options->hypervisor, "auto, kvm or soft");
    command->add_option("--memory", options->memory, "RAM of the guest");
    command->add_option("--zero", options->zero_percent, "Percent of it that is zero pages")
        ->check(CLI::Range(0, 100));
    command->add_option("--hot", options->hot, "Size of the hot set");
    command->add_option("--rate", options->rate, "Pages a second dirtied in the hot set");
    command->add_option("--downtime", options->downtime, "The blackout aimed at");
    command->add_option("--mode", options->mode, "precopy or hybrid")
        ->check(CLI::IsMember({"precopy", "hybrid"}));
    command->add_option("--streams", options->streams, "Connections for pages; 0: auto")
        ->check(CLI::Range(0, 16));
    command->add_option("--runs", options->runs, "How often")->check(CLI::Range(1, 1000));
    command->add_flag(
        "--cold",
        options->is_cold,
        "Do not touch as much host memory first: counts what a virtual host's own host takes for "
        "it");
    command->add_flag(
        "--reference,!--no-reference",
        options->has_reference,
        "Before each run, move the same guest while it dirties nothing: one full copy");
    command->callback([options, &outcome] { outcome = migrate(*options); });
}

} // namespace

void add_migration(CLI::App& app, ExitCode& outcome) {
    add_command(app, "migrate", "Total time, rates, blackout felt by the guest", {}, outcome);
    add_command(
        app,
        "hybrid",
        "The same of a guest that does not converge and goes on before its memory is all there",
        hybrid_defaults(),
        outcome);
}

} // namespace wherry::tools
