// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/guests/options.hpp"
#include "tests/guests/page_pattern.hpp"
#include "tests/guests/page_space.hpp"
#include "tests/guests/version_ledger.hpp"

#include <cstdint>

namespace wherry::guest {

/// What all CPUs read after the boot CPU has set it up.
struct Setup {
    Options options;
    PageSpace pages;
    ClassMix mix;
    std::uint32_t tsc_khz;
    bool may_halt; ///< idle CPUs halt; else they spin
    std::uint32_t* versions;
    std::uint64_t* sums;
    std::uint32_t* hot_pages; ///< room for hot_capacity page indices per CPU
    std::uint32_t hot_capacity;
};

/// Pages per second out of TSC ticks. After a pause it catches up by at most 20 ms worth.
class TokenBucket {
public:
    void start(std::uint64_t rate, std::uint32_t tsc_khz, std::uint32_t cpu_count) noexcept;
    void refill(std::uint64_t ticks) noexcept;
    [[nodiscard]] bool take() noexcept;

private:
    std::uint64_t rate_ = 0;
    std::uint64_t credit_ = 0;
    std::uint64_t page_credit_ = 1;
    std::uint64_t longest_ticks_ = 0;
};

/// Distances between loop turns. Everything that keeps the loop from turning counts, the guest's
/// own sleep (at most one tick) and output included.
struct Gaps {
    std::uint64_t since_report = 0; ///< TSC ticks, as all of these
    std::uint64_t ever = 0;
    std::uint64_t ever_at = 0;   ///< since start, when the longest one ended
    std::uint64_t long_ones = 0; ///< count of gaps above 5 ms
    std::uint64_t backward = 0;  ///< count of TSC steps backwards
};

struct Counters {
    std::uint64_t checked = 0;
    std::uint64_t sweeps = 0;
    std::uint64_t dirtied = 0;
    std::uint64_t errors = 0;
    std::uint64_t turns = 0;
    std::uint64_t halts = 0;
};

/// The load of one CPU on its own slice of the pages.
class Worker {
public:
    /// Takes slice number of setup.options.cpu_count and fills it.
    void fill(const Setup& setup, std::uint32_t number) noexcept;

    /// Starts clocks and buckets; then turns until the VM ends.
    [[noreturn]] void run() noexcept;

    [[nodiscard]] std::uint32_t hot_count() const noexcept { return hot_count_; }
    [[nodiscard]] std::uint64_t bytes_filled() const noexcept { return bytes_filled_; }
    [[nodiscard]] const Counters& counters() const noexcept { return counters_; }

private:
    void choose_hot_pages() noexcept;
    void turn() noexcept;
    void observe_clock() noexcept;
    void check_tables() noexcept;
    bool work() noexcept;
    void dirty_page(std::uint32_t index) noexcept;
    void check_page(std::uint32_t index) noexcept;
    bool check_next() noexcept;
    void rest(bool output_waits) noexcept;

    void inject_fault() noexcept;
    void report_if_due() noexcept;
    void end_if_due() noexcept;
    void report_page_error(const Mismatch& mismatch, PageContent content) noexcept;
    void report_table_error(const VersionLedger::Finding& finding) noexcept;

    [[nodiscard]] PageContent content_of(std::uint32_t index) const noexcept;
    [[nodiscard]] std::uint32_t next_hot() noexcept;
    [[nodiscard]] std::uint64_t microseconds(std::uint64_t ticks) const noexcept;
    [[nodiscard]] std::uint64_t elapsed() const noexcept { return now_ - start_; }

    const Setup* setup_ = nullptr;
    std::uint32_t number_ = 0;
    std::uint32_t first_ = 0; ///< the slice: [first_, end_) of the page numbering
    std::uint32_t end_ = 0;
    std::uint32_t sweep_at_ = 0;
    std::uint32_t* hot_ = nullptr;
    std::uint32_t hot_count_ = 0;
    std::uint32_t hot_at_ = 0;
    std::uint64_t random_state_ = 0;
    std::uint64_t bytes_filled_ = 0;

    VersionLedger ledger_;
    TokenBucket dirty_tokens_;
    TokenBucket check_tokens_;
    Counters counters_;
    Gaps gaps_;
    std::uint64_t start_ = 0; ///< TSC
    std::uint64_t now_ = 0;   ///< TSC at the begin of this turn
    std::uint64_t next_report_ = 0;
    std::uint64_t reports_ = 0;
    bool fault_done_ = false;
};

extern std::array<Worker, max_cpus> workers;

} // namespace wherry::guest
