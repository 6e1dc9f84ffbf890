// SPDX-License-Identifier: Apache-2.0
// What a harvest of the dirty log costs besides the hypervisor's part: going through the bitmap.
#include "formats/page_bitmap.hpp"
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/quantities.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace wherry::tools {

namespace {

using formats::Gfn;
using formats::PageBitmap;
using formats::PageCount;
using formats::PageRange;

struct DirtyScanOptions {
    std::string memory = "12288G";
    double percent = 1;
    std::uint64_t run = 64;
    unsigned runs = 5;
};

/// Runs of `run` pages at random places until about `percent` of all are set.
void dirty(PageBitmap& bitmap, double percent, std::uint64_t run) {
    std::mt19937_64 random{1};
    const std::uint64_t pages = bitmap.pages().count().value();
    const auto wanted = static_cast<std::uint64_t>(static_cast<double>(pages) * percent / 100);
    std::uniform_int_distribution<std::uint64_t> place{0, pages / run - 1};
    for (std::uint64_t set = 0; set < wanted; set += run) {
        if (const auto range = PageRange::make(Gfn{place(random) * run}, PageCount{run})) {
            bitmap.set(*range);
        }
    }
}

struct Scan {
    double ms;
    std::uint64_t runs;
    std::uint64_t pages;
};

Scan scan(const PageBitmap& bitmap) {
    const auto begun = std::chrono::steady_clock::now();
    Scan found{};
    const PageCount longest = bitmap.pages().count();
    for (auto run = bitmap.next_run(Gfn{0}, longest); run;
         run = bitmap.next_run(run->end(), longest)) {
        ++found.runs;
        found.pages += run->count().value();
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begun;
    found.ms = took.count();
    return found;
}

void print_scan(std::string_view label, const Scan& scan, std::size_t bytes) {
    fmt::print(
        "{{\"run\":\"{}\",\"bitmap_MiB\":{},\"dirty_pages\":{},\"dirty_runs\":{},"
        "\"scan_ms\":{:.1f}}}\n",
        label,
        bytes >> 20U,
        scan.pages,
        scan.runs,
        scan.ms);
}

ExitCode scan_dirty_log(const DirtyScanOptions& options) {
    const auto memory = parse_size(options.memory);
    if (!memory) {
        return fail_with(memory.error());
    }
    const auto pages = PageRange::make(Gfn{0}, PageCount{memory->value() / formats::page_size});
    if (!pages) {
        return fail_with(pages.error());
    }
    PageBitmap bitmap{*pages};
    dirty(bitmap, options.percent, options.run);
    std::vector<double> times;
    Scan last{};
    for (unsigned run = 1; run <= options.runs; ++run) {
        last = scan(bitmap);
        times.push_back(last.ms);
        print_scan(fmt::format("{}", run), last, bitmap.words().size_bytes());
    }
    last.ms = median(std::move(times));
    print_scan("median", last, bitmap.words().size_bytes());
    return ExitCode::done;
}

} // namespace

void add_dirty_scan(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<DirtyScanOptions>();
    auto* command =
        app.add_subcommand("dirty-scan", "Finding the runs of a dirty bitmap, one core");
    command->add_option("--memory", options->memory, "RAM of the guest (12288G)");
    command->add_option("--percent", options->percent, "Percent of its pages that are dirty (1)")
        ->check(CLI::Range(0.0, 100.0));
    command->add_option("--run", options->run, "Pages that are dirty in a row (64)")
        ->check(CLI::Range(1U, 1U << 20U));
    command->add_option("--runs", options->runs, "How often (5)")->check(CLI::Range(1, 1000));
    command->callback([options, &outcome] { outcome = scan_dirty_log(*options); });
}

} // namespace wherry::tools
