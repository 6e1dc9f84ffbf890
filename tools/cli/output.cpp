// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/output.hpp"

#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <cstdio>

#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;

namespace {

std::chrono::duration<double> from_ms(double ms) {
    return std::chrono::duration<double, std::milli>{ms};
}

} // namespace

ExitCode exit_code_for(const formats::Error& error) {
    if (error.code() == ErrorCode::cancelled) {
        return ExitCode::cancelled;
    }
    return error.code() == ErrorCode::in_doubt ? ExitCode::in_doubt : ExitCode::failed;
}

ExitCode exit_code_for(const api::Job& job) {
    if (job.state() == "done") {
        return ExitCode::done;
    }
    if (job.state() == "cancelled") {
        return ExitCode::cancelled;
    }
    return job.state() == "in-doubt" ? ExitCode::in_doubt : ExitCode::failed;
}

void print_error(const formats::Error& error) {
    std::string where;
    if (error.side() != formats::Side::local && error.phase() != formats::Phase::none) {
        where = fmt::format(" ({}, {})", name_of(error.side()), name_of(error.phase()));
    }
    fmt::print(stderr, "wherry: {}{}\n", error.text(), where);
}

ExitCode fail_with(const formats::Error& error) {
    print_error(error);
    return exit_code_for(error);
}

std::string progress_line(const api::Job& job) {
    const auto& now = job.progress();
    if (now.phase() != "precopy") {
        return fmt::format("{} · {}", now.phase(), format_duration(from_ms(now.elapsed_ms())));
    }
    return fmt::format(
        "pass {} · {} of {} · {} wire ({} effective) · dirty {}{} · est. blackout {} (goal {}) · "
        "ETA {}",
        now.round() + 1,
        format_bytes(now.round_bytes()),
        format_bytes(now.round_total_bytes()),
        format_rate(now.wire_rate()),
        format_rate(now.effective_rate()),
        format_rate(now.dirty_rate()),
        now.throttle_percent() == 0 ? std::string{}
                                    : fmt::format(" (slowed by {} %)", now.throttle_percent()),
        format_duration(from_ms(now.predicted_blackout_ms())),
        format_duration(from_ms(now.downtime_goal_ms())),
        format_duration(from_ms(now.eta_ms())));
}

std::string describe_report(const api::Job& job) {
    const auto& report = job.report();
    std::string text;
    const auto line = [&text](std::string_view label, const std::string& value) {
        text += fmt::format("  {:<18}{}\n", label, value);
    };
    line("passes", fmt::format("{}", report.rounds()));
    line(
        "memory sent",
        fmt::format(
            "{} raw, {} as zero pages",
            format_bytes(report.raw_page_bytes()),
            format_bytes(report.zero_page_bytes())));
    line(
        "wire",
        fmt::format(
            "{} at {} ({} effective) over {} stream{}",
            format_bytes(report.wire_bytes()),
            format_rate(report.wire_rate()),
            format_rate(report.effective_rate()),
            report.streams(),
            report.streams() == 1 ? "" : "s"));
    line("total time", format_duration(from_ms(report.total_ms())));
    line(
        "blackout",
        fmt::format(
            "{} (stop {}, last pages {}, state {}, load {}, hand-over {}; predicted {})",
            format_duration(from_ms(report.blackout_ms())),
            format_duration(from_ms(report.blackout_stop_ms())),
            format_duration(from_ms(report.blackout_pages_ms())),
            format_duration(from_ms(report.blackout_state_ms())),
            format_duration(from_ms(report.blackout_load_ms())),
            format_duration(from_ms(report.blackout_handover_ms())),
            format_duration(from_ms(report.predicted_blackout_ms()))));
    return text;
}

} // namespace wherry::tools
