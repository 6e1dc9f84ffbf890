// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace wherry::guest {

enum class IdleMode { automatic, halt, spin };
enum class HotOrder { random, sequential };
enum class HotLayout { run, spread };
enum class Fault { none, stale, torn, lost, table, ledger, everything };
enum class ApicMode { automatic, xapic, x2apic };

inline constexpr std::uint64_t unlimited_rate = ~std::uint64_t{0};

/// The command line, parsed. Rates are pages per second over all CPUs.
struct Options {
    std::uint32_t zero_percent = 50;
    std::uint32_t compressible_percent = 25;
    std::uint32_t random_percent = 25;
    std::uint64_t hot_bytes = 64 << 20;
    std::uint64_t dirty_rate = 20000;
    std::uint64_t check_rate = 100000;
    std::uint64_t report_ms = 200;
    std::uint64_t exit_after_ms = 0; ///< 0: never
    std::uint64_t fault_after_ms = 500;
    std::uint64_t tick_us = 500; ///< longest sleep when idle
    std::uint32_t cpu_count = 1;
    std::uint32_t tsc_khz = 0; ///< 0: not given
    bool touch_zero = true;
    bool check_zero = true;
    IdleMode idle = IdleMode::automatic;
    HotOrder order = HotOrder::random;
    HotLayout layout = HotLayout::run;
    Fault fault = Fault::none;
    ApicMode apic = ApicMode::automatic;
};

/// What was wrong with a command line: the token, and what its key accepts.
struct OptionProblem {
    std::string_view token;
    std::string_view remedy; ///< empty: no problem
};

/// Parses until the first bad value; unknown keys are reported through on_unknown and skipped.
[[nodiscard]] OptionProblem parse_options(
    std::string_view line, Options& options, void (*on_unknown)(std::string_view)) noexcept;

} // namespace wherry::guest
