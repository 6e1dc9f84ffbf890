// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/output.hpp"

#include "tools/json.hpp"
#include "tools/quantities.hpp"

#include <cstdio>
#include <functional>

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
    if (job.kind() == "estimate") {
        return fmt::format(
            "watched for {}, {} to go",
            format_duration(from_ms(now.elapsed_ms())),
            format_duration(from_ms(now.eta_ms())));
    }
    if (now.phase() == "postcopy") {
        const std::string missing = now.missing_bytes() > 0
                                        ? fmt::format(
                                              " · {} missing, {} wait for some of it",
                                              format_bytes(now.missing_bytes()),
                                              now.waiting_faults())
                                        : std::string{};
        return fmt::format(
            "postcopy · {} of {} pushed · {} wire{} · {}",
            format_bytes(now.round_bytes()),
            format_bytes(now.round_total_bytes()),
            format_rate(now.wire_rate()),
            missing,
            format_duration(from_ms(now.elapsed_ms())));
    }
    if (now.phase() != "precopy") {
        return fmt::format("{} · {}", now.phase(), format_duration(from_ms(now.elapsed_ms())));
    }
    return fmt::format(
        "pass {} · {} of {} · {} {} ({} effective) · dirty {}{} · est. blackout {} (goal {}) · "
        "ETA {}",
        now.round() + 1,
        format_bytes(now.round_bytes()),
        format_bytes(now.round_total_bytes()),
        format_rate(now.wire_rate()),
        job.kind() == "snapshot" ? "file" : "wire",
        format_rate(now.effective_rate()),
        format_rate(now.dirty_rate()),
        now.throttle_percent() == 0 ? std::string{}
                                    : fmt::format(" (slowed by {} %)", now.throttle_percent()),
        format_duration(from_ms(now.predicted_blackout_ms())),
        format_duration(from_ms(now.downtime_goal_ms())),
        format_duration(from_ms(now.eta_ms())));
}

namespace {

std::string labelled(std::string_view label, const std::string& value) {
    return fmt::format("  {:<18}{}\n", label, value);
}

/// " (predicted 3.2 s after the first pass, 3.3 s before the blackout)", or what there is of it.
std::string predicted(
    const api::Report& report, const std::function<std::string(const api::Forecast&)>& value) {
    if (!report.has_predicted_first()) {
        return {};
    }
    return fmt::format(
        " (predicted {} after the first pass, {} before the blackout)",
        value(report.predicted_first()),
        value(report.predicted_last()));
}

/// A probable value and one that is rarely exceeded: "3.2 s (p95 4.1 s)".
std::string spread(const std::string& p50, const std::string& p95) {
    return p50 == p95 ? p50 : fmt::format("{} (p95 {})", p50, p95);
}

std::string describe_way(const api::WayOutlook& way) {
    const auto slowed =
        way.throttle_percent_p95() == 0
            ? std::string{}
            : fmt::format(", the guest slowed by up to {} %", way.throttle_percent_p95());
    return fmt::format(
        "total {}, wire {}, blackout {}{}{}",
        spread(
            format_duration(from_ms(way.p50().total_ms())),
            format_duration(from_ms(way.p95().total_ms()))),
        spread(format_bytes(way.p50().wire_bytes()), format_bytes(way.p95().wire_bytes())),
        spread(
            format_duration(from_ms(way.p50().blackout_ms())),
            format_duration(from_ms(way.p95().blackout_ms()))),
        slowed,
        way.arrives_p95()   ? ""
        : way.arrives_p50() ? "; gets there with luck only"
                            : "; does not get there");
}

std::string describe_rate(const api::Estimate& estimate) {
    auto rate = format_rate(estimate.wire_rate_p50());
    if (estimate.rate_source() == "limit") {
        return rate + ", by --bandwidth";
    }
    if (estimate.bandwidth() > 0) {
        rate += fmt::format(" (limited to {})", format_rate(estimate.bandwidth()));
    }
    if (estimate.rate_source() == "probe") {
        return rate + fmt::format(
                          ", as measured with {} in {} over one connection",
                          format_bytes(estimate.probe().sent_bytes()),
                          format_duration(from_ms(estimate.probe().measuring_ms())));
    }
    if (estimate.rate_source() == "last-migration") {
        return rate + ", as measured by the last migration of this VM";
    }
    return rate + ", what a core of this host can copy, digest and encrypt: no link was measured, "
                  "and a slower one takes longer (--bandwidth tells of it)";
}

std::string describe_destination(const api::Probe& probe) {
    std::string text = labelled(
        "destination",
        fmt::format(
            "{}: reached in {}, plan in {}, round trip {}",
            probe.peer(),
            format_duration(from_ms(probe.connect_ms())),
            format_duration(from_ms(probe.plan_ms())),
            format_duration(from_ms(probe.round_trip_ms()))));
    for (const auto& objection : probe.objections()) {
        text += labelled("would be refused:", objection);
    }
    for (const auto& finding : probe.findings()) {
        text += labelled("", finding);
    }
    if (!probe.postcopy_obstacle().empty()) {
        text += labelled("no hybrid:", probe.postcopy_obstacle());
    }
    return text;
}

} // namespace

std::string describe_estimate(const api::Estimate& estimate) {
    std::string text;
    text += labelled(
        "recommended", estimate.recommended().empty() ? "nothing" : estimate.recommended());
    text += labelled("why", estimate.why());
    if (estimate.has_probe()) {
        text += describe_destination(estimate.probe());
    }
    for (const auto& way : estimate.ways()) {
        text += labelled(way.way(), describe_way(way));
    }
    text += labelled("wire rate", describe_rate(estimate));
    text += labelled(
        "memory",
        fmt::format(
            "{} to send, {} zero; {} written in {} ({})",
            format_bytes(estimate.raw_page_bytes()),
            format_bytes(estimate.zero_page_bytes()),
            format_bytes(estimate.written_bytes()),
            format_duration(from_ms(estimate.watched_ms())),
            estimate.tracker()));
    return text;
}

namespace {

std::string describe_snapshot(const api::Report& report) {
    return labelled(
               "memory",
               fmt::format(
                   "{} stored, {} zero, in {} pass{}",
                   format_bytes(report.raw_page_bytes()),
                   format_bytes(report.zero_page_bytes()),
                   report.rounds(),
                   report.rounds() == 1 ? "" : "es")) +
           labelled("image", format_bytes(report.wire_bytes())) +
           labelled("total time", format_duration(from_ms(report.total_ms()))) +
           labelled(
               "blackout",
               fmt::format(
                   "{} (stop {}, last pages {}, state {}, going on {})",
                   format_duration(from_ms(report.blackout_ms())),
                   format_duration(from_ms(report.blackout_stop_ms())),
                   format_duration(from_ms(report.blackout_pages_ms())),
                   format_duration(from_ms(report.blackout_state_ms())),
                   format_duration(from_ms(report.blackout_handover_ms()))));
}

} // namespace

std::string describe_report(const api::Job& job) {
    const auto& report = job.report();
    std::string text;
    const auto line = [&text](std::string_view label, const std::string& value) {
        text += labelled(label, value);
    };
    if (job.kind() == "snapshot") {
        return describe_snapshot(report);
    }
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
            "{} at {} ({} effective) over {} stream{}{}",
            format_bytes(report.wire_bytes()),
            format_rate(report.wire_rate()),
            format_rate(report.effective_rate()),
            report.streams(),
            report.streams() == 1 ? "" : "s",
            predicted(report, [](const auto& said) { return format_bytes(said.wire_bytes()); })));
    line(
        "total time",
        format_duration(from_ms(report.total_ms())) + predicted(report, [](const auto& said) {
            return format_duration(from_ms(said.total_ms()));
        }));
    line(
        "blackout",
        fmt::format(
            "{} (stop {}, last pages {}, state {}, load {}, hand-over {}){}",
            format_duration(from_ms(report.blackout_ms())),
            format_duration(from_ms(report.blackout_stop_ms())),
            format_duration(from_ms(report.blackout_pages_ms())),
            format_duration(from_ms(report.blackout_state_ms())),
            format_duration(from_ms(report.blackout_load_ms())),
            format_duration(from_ms(report.blackout_handover_ms())),
            predicted(report, [](const auto& said) {
                return format_duration(from_ms(said.blackout_ms()));
            })));
    if (report.has_faults()) {
        const auto& faults = report.faults();
        line(
            "waits for pages",
            fmt::format(
                "{:.0f} (median {}, p99 {}, longest {}); {} came twice",
                faults.count(),
                format_duration(from_ms(faults.median_ms())),
                format_duration(from_ms(faults.p99_ms())),
                format_duration(from_ms(faults.longest_ms())),
                format_bytes(faults.repeated_bytes())));
    }
    return text;
}

} // namespace wherry::tools
