// SPDX-License-Identifier: Apache-2.0
// What one harvest of the dirty log costs while the guest works: the hypervisor's part, the ways
// to it, and merging the answer.
#include "dirtylog/dirty_tracker.hpp"
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/quantities.hpp"
#include "tools/trial/guest_log.hpp"
#include "tools/trial/trial.hpp"
#include "vmm/machine.hpp"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

namespace {

namespace fs = std::filesystem;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds patience{300};
constexpr std::chrono::milliseconds look_interval{20};

struct HarvestOptions {
    std::string hypervisor = "auto";
    std::string memory = "2G";
    std::string hot = "64M";
    std::string interval = "100ms";
    unsigned rate = 20'000;
    unsigned runs = 20;
};

/// The serial log of a machine of ours, gone when we are.
class SerialFile {
public:
    SerialFile()
        : path_{fs::temp_directory_path() / fmt::format("wherry-harvest-{}.log", ::getpid())} {}
    SerialFile(const SerialFile&) = delete;
    SerialFile& operator=(const SerialFile&) = delete;
    ~SerialFile() {
        std::error_code ignored; // what is left in the temporary directory harms nobody
        fs::remove(path_, ignored);
    }
    [[nodiscard]] const fs::path& path() const noexcept { return path_; }

private:
    fs::path path_;
};

Result<std::unique_ptr<vmm::Machine>>
start_guest(const HarvestOptions& options, const SerialFile& serial) {
    const auto memory = parse_size(options.memory);
    if (!memory) {
        return fail(memory.error());
    }
    const auto hypervisor = vmm::hypervisor_from(options.hypervisor);
    if (!hypervisor) {
        return fail(hypervisor.error());
    }
    const auto guest = find_test_guest();
    if (!guest) {
        return fail(guest.error());
    }
    auto machine = vmm::Machine::create(
        {.memory = *memory},
        {.hypervisor = *hypervisor, .serial = "file:" + serial.path().string()});
    if (!machine) {
        return machine;
    }
    auto booted = (*machine)->boot(
        {.kernel = guest->string(),
         .initrd = {},
         .command_line = fmt::format("hot={} rate={} check=50000", options.hot, options.rate)});
    if (booted) {
        booted = (*machine)->resume();
    }
    if (!booted) {
        return fail(booted.error());
    }
    return machine;
}

/// Until the guest has filled its memory and works.
Status wait_until_ready(const vmm::Machine& machine, const SerialFile& serial) {
    GuestLog log{serial.path()};
    const auto limit = Clock::now() + patience;
    while (!log.ready()) {
        if (const auto end = machine.end()) {
            return fail(ErrorCode::wrong_state, "the guest ended: " + end->text);
        }
        if (Clock::now() > limit) {
            return fail(
                ErrorCode::timed_out,
                fmt::format("the guest was not ready within {} s", patience.count()));
        }
        std::this_thread::sleep_for(look_interval);
        log.refresh();
    }
    return {};
}

struct Harvest {
    double ms;
    double dirty_pages;
};

Result<std::vector<Harvest>> harvest(vmm::Machine& machine, const HarvestOptions& options) {
    const auto interval = parse_duration(options.interval);
    if (!interval) {
        return fail(interval.error());
    }
    auto tracker = dirtylog::make_tracker(machine);
    if (!tracker) {
        return fail(tracker.error());
    }
    if (auto started = (*tracker)->start(); !started) {
        return fail(started.error());
    }
    dirtylog::DirtySet dirty{machine.memory()};
    std::vector<Harvest> harvests;
    for (unsigned run = 0; run < options.runs; ++run) {
        std::this_thread::sleep_for(*interval);
        dirty.clear();
        const auto begun = Clock::now();
        auto collected = (*tracker)->collect(dirty);
        const std::chrono::duration<double, std::milli> took = Clock::now() - begun;
        if (!collected) {
            return fail(collected.error());
        }
        harvests.push_back({took.count(), static_cast<double>(dirty.count().value())});
    }
    if (auto stopped = (*tracker)->stop(); !stopped) {
        return fail(stopped.error());
    }
    return harvests;
}

void print_harvest(std::string_view label, const Harvest& harvest, double gibibytes) {
    fmt::print(
        "{{\"run\":\"{}\",\"harvest_ms\":{:.3f},\"ms_per_GiB\":{:.3f},\"dirty_pages\":{:.0f}}}\n",
        label,
        harvest.ms,
        harvest.ms / gibibytes,
        harvest.dirty_pages);
}

ExitCode measure_harvest(const HarvestOptions& options) {
    const SerialFile serial;
    const auto machine = start_guest(options, serial);
    if (!machine) {
        return fail_with(machine.error());
    }
    if (auto ready = wait_until_ready(**machine, serial); !ready) {
        return fail_with(ready.error());
    }
    const auto harvests = harvest(**machine, options);
    if (!harvests) {
        return fail_with(harvests.error());
    }
    const auto gibibytes =
        static_cast<double>((*machine)->config().memory.value()) / static_cast<double>(1U << 30U);
    std::vector<double> times;
    std::vector<double> pages;
    for (const Harvest& one : *harvests) {
        times.push_back(one.ms);
        pages.push_back(one.dirty_pages);
        print_harvest(fmt::format("{}", times.size()), one, gibibytes);
    }
    print_harvest("median", {median(std::move(times)), median(std::move(pages))}, gibibytes);
    return ExitCode::done;
}

} // namespace

void add_harvest(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<HarvestOptions>();
    auto* command = app.add_subcommand("harvest", "Reading the dirty log of a guest that works");
    command->add_option(
        "--hypervisor",
        options->hypervisor,
        fmt::format("auto, {} (auto)", vmm::hypervisor_names()));
    command->add_option("--memory", options->memory, "RAM of the guest (2G)");
    command->add_option("--hot", options->hot, "Size of the hot set (64M)");
    command->add_option("--rate", options->rate, "Pages a second dirtied in the hot set (20000)");
    command->add_option("--interval", options->interval, "Between two harvests (100ms)");
    command->add_option("--runs", options->runs, "How often (20)")->check(CLI::Range(1, 100000));
    command->callback([options, &outcome] { outcome = measure_harvest(*options); });
}

} // namespace wherry::tools
