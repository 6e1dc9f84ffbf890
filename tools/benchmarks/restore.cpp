// SPDX-License-Identifier: Apache-2.0
// How soon a guest runs again that comes out of an image, and how soon as fast as before.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/benchmarks/samples.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/child_process.hpp"
#include "tools/trial/guest_in_file.hpp"
#include "tools/trial/trial.hpp"

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

namespace fs = std::filesystem;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using Clock = std::chrono::steady_clock;

struct RestoreBenchOptions {
    std::vector<std::string> memory{"1G", "4G", "8G"};
    std::string hypervisor = "auto";
    std::string directory;
    std::string how = "lazy";
    std::string layout = "raw";
    unsigned zero_percent = 50;
    unsigned rate = 20'000;
    /// Milliseconds between the guest's reports: its first output comes that late at most.
    unsigned report = 20;
    std::string until = "speed";
    unsigned runs = 5;

    [[nodiscard]] std::chrono::milliseconds report_interval() const {
        return std::chrono::milliseconds{report};
    }
};

constexpr std::chrono::microseconds look_interval{200};
constexpr std::chrono::seconds patience{120};
constexpr double recovered = 0.9;
/// Reports before the snapshot whose rate counts as the former one.
constexpr std::size_t reports_before = 100;

double work_of(const GuestReport& report) {
    return static_cast<double>(report.pages_checked + report.pages_dirtied);
}

double ms_since(Clock::time_point begun) {
    return std::chrono::duration<double, std::milli>{Clock::now() - begun}.count();
}

/// In the order in which they are printed.
using Figures = std::vector<double>;

Samples no_samples(std::string_view memory, std::string_view how) {
    return Samples{
        {"first_output_ms", "back_to_speed_ms", "until_first_output_GiB_per_s"},
        fmt::format("\"memory\":\"{}\",\"how\":\"{}\",", memory, how)};
}

struct Snapshot {
    fs::path file;
    formats::Bytes memory;
    double rate; ///< pages a second, checked and dirtied
};

std::string guest_options(const RestoreBenchOptions& options) {
    const unsigned rest = 100 - options.zero_percent;
    return fmt::format(
        "zero={} compressible={} random={} rate={} check=50000 report={}",
        options.zero_percent,
        rest / 2,
        rest - rest / 2,
        options.rate,
        options.report);
}

Result<Snapshot> make_snapshot(
    const RestoreBenchOptions& options, const std::string& memory, const fs::path& directory) {
    const auto size = parse_size(memory);
    const auto guest = find_test_guest();
    const auto hypervisor = vmm::hypervisor_from(options.hypervisor);
    if (!size) {
        return fail(size.error());
    }
    if (!guest) {
        return fail(guest.error());
    }
    if (!hypervisor) {
        return fail(hypervisor.error());
    }
    const auto log = directory / (memory + ".log");
    const auto file = directory / (memory + ".wimg");
    const auto last = write_guest_in_file(
        {.guest = *guest,
         .hypervisor = *hypervisor,
         .memory = *size,
         .guest_options = guest_options(options),
         .reports = reports_before,
         .image =
             {.layout = options.layout == "raw" ? migrate::ImageLayout::raw
                                                : migrate::ImageLayout::zstd}},
        log,
        file);
    if (!last) {
        return fail(last.error());
    }
    GuestLog reports{log};
    reports.refresh();
    const auto& first = reports.reports().at(reports.reports().size() / 2);
    const auto between = static_cast<double>(last->sequence - first.sequence);
    const double seconds =
        between * std::chrono::duration<double>{options.report_interval()}.count();
    return Snapshot{
        .file = file, .memory = *size, .rate = (work_of(*last) - work_of(first)) / seconds};
}

/// Its serial output, as it comes.
class Watch {
public:
    Watch(ChildProcess& process, const fs::path& log) : process_{process}, file_{log}, log_{log} {}

    /// The first byte.
    formats::Status first_output() {
        return wait([this] {
            std::error_code not_there_yet;
            const auto size = fs::file_size(file_, not_there_yet);
            return !not_there_yet && size > 0;
        });
    }
    /// The next report; when it was seen is `at`.
    Result<GuestReport> next() {
        auto waited = wait([this] {
            log_.refresh();
            return log_.reports().size() > seen_;
        });
        if (!waited) {
            return fail(std::move(waited).error());
        }
        at = Clock::now();
        return log_.reports()[seen_++];
    }
    Clock::time_point at;

private:
    template <typename Condition>
    formats::Status wait(const Condition& holds) {
        const auto end = Clock::now() + patience;
        while (!holds()) {
            if (const auto code = process_.poll()) {
                return fail(
                    ErrorCode::internal, fmt::format("wherry restore ended with {}", *code));
            }
            if (Clock::now() > end) {
                return fail(ErrorCode::timed_out, "the guest has not reported in time");
            }
            std::this_thread::sleep_for(look_interval);
        }
        return {};
    }

    ChildProcess& process_;
    fs::path file_;
    GuestLog log_;
    std::size_t seen_ = 0;
};

Result<Figures>
measure(const RestoreBenchOptions& options, const Snapshot& snapshot, const fs::path& directory) {
    const auto log = directory / "restored.log";
    std::error_code none_there;
    fs::remove(log, none_there);
    std::vector<std::string> arguments{
        (own_program().parent_path() / "wherry").string(),
        "restore",
        snapshot.file.string(),
        "--name",
        "restored",
        "--hypervisor",
        options.hypervisor,
        "--serial",
        "file:" + log.string()};
    if (options.how != "eager") {
        arguments.insert(
            arguments.end(), {"--lazy", "--prefetch", options.how == "lazy" ? "on" : "off"});
    }
    const std::array environment{
        "XDG_RUNTIME_DIR=" + directory.string(),
        "XDG_STATE_HOME=" + (directory / "state").string()};
    const auto begun = Clock::now();
    auto process = ChildProcess::start(arguments, environment, directory / "messages");
    if (!process) {
        return fail(std::move(process).error());
    }
    Watch watch{*process, log};
    if (auto come = watch.first_output(); !come) {
        return fail(std::move(come).error());
    }
    const double first_output = ms_since(begun);
    const double gib = static_cast<double>(snapshot.memory.value()) / (1U << 30U);
    if (options.until == "output") {
        return Figures{first_output, 0, gib / (first_output / 1000)};
    }
    auto report = watch.next();
    if (!report) {
        return fail(report.error());
    }
    while (true) {
        const auto before = *report;
        const auto before_at = watch.at;
        report = watch.next();
        if (!report) {
            return fail(report.error());
        }
        if (report->errors != 0) {
            return fail(ErrorCode::corrupted, "the guest has found pages that are wrong");
        }
        const double seconds = std::chrono::duration<double>{watch.at - before_at}.count();
        if (work_of(*report) - work_of(before) >= recovered * snapshot.rate * seconds) {
            return Figures{first_output, ms_since(begun), gib / (first_output / 1000)};
        }
    }
}

ExitCode measure_restores(const RestoreBenchOptions& options) {
    auto pattern = (fs::path{options.directory} / "wherry-restore-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
        return fail_with(formats::system_error(errno, pattern));
    }
    const fs::path directory{pattern};
    const auto measure_all = [&]() -> formats::Status {
        for (const auto& memory : options.memory) {
            const auto snapshot = make_snapshot(options, memory, directory);
            if (!snapshot) {
                return fail(snapshot.error());
            }
            Samples samples = no_samples(memory, options.how);
            for (unsigned run = 0; run < options.runs; ++run) {
                const auto figures = measure(options, *snapshot, directory);
                if (!figures) {
                    return fail(figures.error());
                }
                samples.add(*figures);
            }
            samples.print_medians();
            fs::remove(snapshot->file);
        }
        return {};
    };
    const auto measured = measure_all();
    std::error_code ignored; // what is left in the temporary directory harms nobody
    fs::remove_all(directory, ignored);
    return measured ? ExitCode::done : fail_with(measured.error());
}

} // namespace

void add_restore(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<RestoreBenchOptions>();
    options->directory = fs::temp_directory_path().string();
    auto* command = app.add_subcommand(
        "restore", "From `wherry restore` to the guest's first output, and to its former speed");
    command->option_defaults()->always_capture_default();
    command->add_option("--memory", options->memory, "RAM of the guests, one after the other");
    command->add_option("--how", options->how, "lazy, late (--prefetch off) or eager")
        ->check(CLI::IsMember({"lazy", "late", "eager"}));
    command->add_option("--layout", options->layout, "Of the image: raw or zstd")
        ->check(CLI::IsMember({"raw", "zstd"}));
    command->add_option("--hypervisor", options->hypervisor, "auto, kvm or soft");
    command->add_option("--directory", options->directory, "Where the images are")
        ->check(CLI::ExistingDirectory);
    command->add_option("--zero", options->zero_percent, "Percent of memory that is zero pages")
        ->check(CLI::Range(0, 100));
    command->add_option("--rate", options->rate, "Pages a second dirtied in the hot set");
    command
        ->add_option("--report", options->report, "Milliseconds between two reports of the guest")
        ->check(CLI::Range(1, 10'000));
    command
        ->add_option(
            "--until", options->until, "output: the guest's first; speed: 90 % of its former rate")
        ->check(CLI::IsMember({"output", "speed"}));
    command->add_option("--runs", options->runs, "How often")->check(CLI::Range(1, 1000));
    command->callback([options, &outcome] { outcome = measure_restores(*options); });
}

} // namespace wherry::tools
