// SPDX-License-Identifier: Apache-2.0
// Whole migrations of the test guest between two processes on this machine.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/benchmarks/samples.hpp"
#include "tools/json.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/trial.hpp"

#include <cstdint>
#include <memory>
#include <string>
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
    /// Pages a second that it checks besides; slower than by default, to leave the processors to
    /// what is measured.
    unsigned checked = 50'000;
    unsigned streams = 0;
    unsigned runs = 5;
    bool is_cold = false;
    /// Each run moves the same guest twice more, before that, without anything being dirtied.
    bool has_reference = false;
};

constexpr unsigned more_than_it_can_check = 10'000'000;

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
    trial.guest_options = fmt::format(
        "zero={} compressible={} random={} hot={} rate={} check={}",
        options.zero_percent,
        rest / 2,
        rest - rest / 2,
        options.hot,
        options.rate,
        options.checked);
    return trial;
}

/// How long one full copy of the same guest takes, in milliseconds; 0: not measured.
struct FullCopy {
    double idle = 0; ///< while it does next to nothing
    double busy = 0; ///< while it keeps its processor as busy as the guest that is measured
};

Samples no_samples() {
    return Samples{
        {"total_ms",
         "effective_GiB_per_s",
         "wire_GiB_per_s",
         "wire_GiB",
         "blackout_ms",
         "blackout_stop_ms",
         "blackout_pages_ms",
         "blackout_state_ms",
         "blackout_load_ms",
         "blackout_handover_ms",
         "guest_felt_blackout_ms",
         "guest_longest_gap_ms",
         "dirty_pages_per_s",
         "faults",
         "fault_p50_ms",
         "fault_p99_ms",
         "full_copy_ms",
         "total_per_full_copy",
         "busy_full_copy_ms",
         "total_per_busy_full_copy"}};
}

/// In that order.
std::vector<double> figures_of(const TrialResult& result, const FullCopy& copy) {
    constexpr auto gib = static_cast<double>(1U << 30U);
    const auto& report = result.job.report();
    const auto total = report.total_ms();
    return {
        total,
        report.effective_rate() / gib,
        report.wire_rate() / gib,
        report.wire_bytes() / gib,
        report.blackout_ms(),
        report.blackout_stop_ms(),
        report.blackout_pages_ms(),
        report.blackout_state_ms(),
        report.blackout_load_ms(),
        report.blackout_handover_ms(),
        static_cast<double>(result.felt_blackout.count()) / 1000,
        static_cast<double>(result.longest_gap.count()) / 1000,
        result.dirty_rate,
        report.faults().count(),
        report.faults().median_ms(),
        report.faults().p99_ms(),
        copy.idle,
        copy.idle > 0 ? total / copy.idle : 0,
        copy.busy,
        copy.busy > 0 ? total / copy.busy : 0};
}

formats::Result<TrialResult> run_quietly(const TrialOptions& trial) {
    return formats::then(
        run_trial(trial, silent_observer()),
        [](TrialResult result) -> formats::Result<TrialResult> {
            auto well = found_no_errors(result.guest);
            return well ? formats::Result<TrialResult>{std::move(result)}
                        : formats::fail(std::move(well).error());
        });
}

/// Total time of the same guest while it dirties nothing, in milliseconds.
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

formats::Result<FullCopy> measure_full_copies(MigrationOptions options) {
    const auto idle = measure_full_copy(options);
    if (!idle) {
        return formats::fail(idle.error());
    }
    options.checked = more_than_it_can_check;
    const auto busy = measure_full_copy(options);
    if (!busy) {
        return formats::fail(busy.error());
    }
    return FullCopy{.idle = *idle, .busy = *busy};
}

ExitCode migrate(const MigrationOptions& options) {
    const auto trial = trial_from(options);
    if (!trial) {
        return fail_with(trial.error());
    }
    Samples samples = no_samples();
    for (unsigned run = 0; run < options.runs; ++run) {
        formats::Result<FullCopy> copy = FullCopy{};
        if (options.has_reference) {
            copy = measure_full_copies(options);
        }
        if (!copy) {
            return fail_with(copy.error());
        }
        const auto result = run_quietly(*trial);
        if (!result) {
            return fail_with(result.error());
        }
        samples.add(figures_of(*result, *copy));
    }
    samples.print_medians();
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
        "Before each run, move the same guest twice while it dirties nothing, idle and busy: one "
        "full copy");
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
