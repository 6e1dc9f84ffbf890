// SPDX-License-Identifier: Apache-2.0
// What a worker says. The formats are described in README.md.
#include "tests/guests/generation.hpp"
#include "tests/guests/serial.hpp"
#include "tests/guests/text.hpp"
#include "tests/guests/worker.hpp"

namespace wherry::guest {

namespace {

constexpr std::uint64_t most_error_lines = 16;

} // namespace

void Worker::report_if_due() noexcept {
    if (now_ < next_report_) {
        return;
    }
    Line line("report");
    line.field("n", reports_).field("cpu", number_).field("t_us", microseconds(elapsed()));
    line.field("pages", end_ - first_).field("checked", counters_.checked);
    line.field("sweeps", counters_.sweeps).field("dirtied", counters_.dirtied);
    line.field("errors", counters_.errors).field("gap_us", microseconds(gaps_.since_report));
    line.field("max_gap_us", microseconds(gaps_.ever)).field("tsc_back", gaps_.backward);
    line.field("max_gap_at_us", microseconds(gaps_.ever_at)).field("long_gaps", gaps_.long_ones);
    line.field("audits", ledger_.rounds()).field("turns", counters_.turns);
    line.field("halts", counters_.halts);
    line.hex_field("generation_low", generation::half(0));
    line.hex_field("generation_high", generation::half(1));
    line.field("generation_events", generation::events());
    if (!serial::try_queue(line.finish())) {
        return; // said in one of the next turns, with the numbers of that turn
    }
    ++reports_;
    gaps_.since_report = 0;
    const auto period = setup_->options.report_ms * setup_->tsc_khz;
    next_report_ += period;
    if (next_report_ <= now_) { // after a pause: no burst of reports
        next_report_ = now_ + period;
    }
}

void Worker::end_if_due() noexcept {
    const auto limit = setup_->options.exit_after_ms;
    if (number_ != 0 || limit == 0 || elapsed() < limit * setup_->tsc_khz) {
        return;
    }
    Counters sum;
    for (const auto& worker : workers) {
        sum.checked += __atomic_load_n(&worker.counters_.checked, __ATOMIC_RELAXED);
        sum.dirtied += __atomic_load_n(&worker.counters_.dirtied, __ATOMIC_RELAXED);
        sum.errors += __atomic_load_n(&worker.counters_.errors, __ATOMIC_RELAXED);
    }
    Line line("done");
    line.field("t_us", microseconds(elapsed())).field("checked", sum.checked);
    line.field("dirtied", sum.dirtied).field("errors", sum.errors);
    serial::queue(line.finish());
    serial::drain();
    end_vm(sum.errors == 0 ? 0 : exit_errors_found);
}

void Worker::report_page_error(const Mismatch& mismatch, PageContent content) noexcept {
    if (counters_.errors > most_error_lines) {
        return;
    }
    Line line("error");
    line.field("page", content.gfn).field("version", content.version);
    line.field("offset", mismatch.offset).hex_field("expected", mismatch.expected);
    line.hex_field("found", mismatch.found).field("kind", mismatch.kind);
    line.field("found_version", mismatch.found_version).field("cpu", number_);
    line.field("t_us", microseconds(elapsed()));
    serial::queue(line.finish());
}

void Worker::report_table_error(const VersionLedger::Finding& finding) noexcept {
    if (counters_.errors > most_error_lines) {
        return;
    }
    Line line("error");
    line.field("page", finding.block).field("version", 0).field("offset", 0);
    line.field("expected", finding.expected).field("found", finding.found);
    line.field("kind", finding.kind).field("cpu", number_);
    line.field("t_us", microseconds(elapsed()));
    serial::queue(line.finish());
}

} // namespace wherry::guest
