// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/job.hpp"

#include "tools/json.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>

#include <fmt/format.h>

namespace wherry::tools {

HoldPoint::HoldPoint() {
    if (const char* const at = std::getenv("WHERRY_HOLD_AT")) { // NOLINT(concurrency-mt-unsafe)
        at_ = at;
    }
}

void HoldPoint::passed(const migrate::ProgressSnapshot& now) {
    if (at_.empty() || (now.ownership_state != at_ && name_of(now.phase) != at_)) {
        return;
    }
    at_.clear();
    ::raise(SIGSTOP);
}

namespace {

double ms(migrate::Duration duration) {
    return std::chrono::duration<double, std::milli>{duration}.count();
}

double number(formats::Bytes bytes) {
    return static_cast<double>(bytes.value());
}
double number(migrate::BytesPerSecond rate) {
    return static_cast<double>(rate.value());
}

void describe(const migrate::ProgressSnapshot& from, api::Progress& into) {
    into.set_phase(std::string{name_of(from.phase)});
    into.set_round(from.round);
    into.set_memory_bytes(number(from.memory));
    into.set_round_bytes(number(from.round_done));
    into.set_round_total_bytes(number(from.round_total));
    into.set_raw_page_bytes(number(from.raw_page_bytes));
    into.set_zero_page_bytes(number(from.zero_page_bytes));
    into.set_wire_bytes(number(from.wire_bytes));
    into.set_wire_rate(number(from.wire_rate));
    into.set_effective_rate(number(from.effective_rate));
    into.set_dirty_rate(number(from.dirty_rate));
    into.set_predicted_blackout_ms(ms(from.predicted_blackout.value_or(migrate::Duration{})));
    into.set_downtime_goal_ms(ms(from.downtime_goal));
    into.set_eta_ms(ms(from.eta.value_or(migrate::Duration{})));
    into.set_elapsed_ms(ms(from.elapsed));
    into.set_throttle_percent(from.throttle_percent);
    into.set_owner_state(from.ownership_state);
    into.set_owner_explanation(from.ownership);
    into.set_missing_bytes(number(formats::bytes_of(from.missing)));
    into.set_waiting_faults(static_cast<double>(from.waiting));
}

void describe(const migrate::Forecast& from, api::Forecast& into) {
    into.set_total_ms(ms(from.total));
    into.set_wire_bytes(number(from.wire_bytes));
    into.set_blackout_ms(ms(from.blackout));
}

void describe(const migrate::Report& from, api::Report& into) {
    into.set_rounds(static_cast<std::uint32_t>(from.rounds.size()));
    into.set_streams(from.streams);
    into.set_total_ms(ms(from.total));
    into.set_raw_page_bytes(number(from.raw_page_bytes));
    into.set_zero_page_bytes(number(from.zero_page_bytes));
    into.set_wire_bytes(number(from.wire_bytes));
    into.set_wire_rate(number(from.wire_rate));
    into.set_effective_rate(number(from.effective_rate));
    into.set_blackout_ms(ms(from.blackout.total()));
    into.set_blackout_stop_ms(ms(from.blackout.stop));
    into.set_blackout_pages_ms(ms(from.blackout.pages));
    into.set_blackout_state_ms(ms(from.blackout.state));
    into.set_blackout_load_ms(ms(from.blackout.load));
    into.set_blackout_handover_ms(ms(from.blackout.handover));
    into.set_predicted_blackout_ms(ms(from.predicted_blackout.value_or(migrate::Duration{})));
    if (from.predicted_first) {
        describe(*from.predicted_first, *into.mutable_predicted_first());
    }
    if (from.predicted_last) {
        describe(*from.predicted_last, *into.mutable_predicted_last());
    }
    for (const auto& note : from.notes) {
        into.add_notes(note);
    }
    if (from.faults) {
        auto& faults = *into.mutable_faults();
        faults.set_count(static_cast<double>(from.faults->count));
        faults.set_median_ms(ms(from.faults->median));
        faults.set_p99_ms(ms(from.faults->p99));
        faults.set_longest_ms(ms(from.faults->longest));
        faults.set_repeated_bytes(number(formats::bytes_of(from.faults->repeated)));
    }
    for (const auto& round : from.rounds) {
        auto* pass = into.add_passes();
        pass->set_pages(static_cast<double>((round.raw_pages + round.zero_pages).value()));
        pass->set_raw_page_bytes(number(formats::bytes_of(round.raw_pages)));
        pass->set_zero_page_bytes(number(formats::bytes_of(round.zero_pages)));
        pass->set_duration_ms(ms(round.duration));
    }
}

std::string_view name_of(migrate::RateSource source) {
    switch (source) {
    case migrate::RateSource::probe:
        return "probe";
    case migrate::RateSource::limit:
        return "limit";
    case migrate::RateSource::last_migration:
        return "last-migration";
    case migrate::RateSource::this_host:
        return "this-host";
    }
    return "this-host";
}

void describe(const migrate::WayOutlook& from, api::WayOutlook& into) {
    into.set_way(std::string{name_of(from.way)});
    into.set_arrives_p50(from.usual.arrives());
    into.set_arrives_p95(from.unlucky.arrives());
    describe(from.usual.forecast, *into.mutable_p50());
    describe(from.unlucky.forecast, *into.mutable_p95());
    into.set_rounds_p50(from.usual.rounds);
    into.set_rounds_p95(from.unlucky.rounds);
    into.set_throttle_percent_p50(from.usual.throttle_percent);
    into.set_throttle_percent_p95(from.unlucky.throttle_percent);
}

void describe(const migrate::ProbeOutcome& from, api::Probe& into) {
    into.set_peer(from.peer);
    into.set_connect_ms(ms(from.connecting));
    into.set_plan_ms(ms(from.planning));
    into.set_round_trip_ms(ms(from.round_trip));
    into.set_sent_bytes(number(from.sent));
    into.set_measuring_ms(ms(from.measuring));
    into.set_rate_p50(number(from.rate.usual));
    into.set_rate_p95(number(from.rate.low));
    for (const auto& objection : from.verdict.objections) {
        into.add_objections(objection);
    }
    for (const auto& finding : from.verdict.findings) {
        into.add_findings(finding);
    }
    into.set_postcopy_obstacle(from.verdict.postcopy_obstacle);
}

void describe(const migrate::Estimation& from, api::Estimate& into) {
    if (from.estimate.recommended) {
        into.set_recommended(std::string{name_of(*from.estimate.recommended)});
    }
    into.set_why(from.estimate.why);
    for (const auto& way : from.estimate.ways) {
        describe(way, *into.add_ways());
    }
    into.set_downtime_goal_ms(ms(from.policy.downtime));
    into.set_bandwidth(number(from.policy.bandwidth.value_or(migrate::BytesPerSecond{0})));
    into.set_wire_rate_p50(number(from.link.usual_rate));
    into.set_wire_rate_p95(number(from.link.low_rate));
    into.set_rate_source(std::string{name_of(from.rate_source)});
    into.set_raw_page_bytes(number(formats::bytes_of(from.guest.raw_pages)));
    into.set_zero_page_bytes(number(formats::bytes_of(from.guest.zero_pages)));
    into.set_watched_ms(ms(from.watched));
    into.set_tracker(from.tracker);
    into.set_written_bytes(number(formats::bytes_of(from.written)));
    for (const auto& from_point : from.guest.dirtied.points()) {
        auto* point = into.add_dirty_curve();
        point->set_interval_ms(ms(from_point.interval));
        point->set_pages_p50(from_point.usual);
        point->set_pages_p95(from_point.high);
        point->set_samples(from_point.samples);
    }
    if (from.probe) {
        describe(*from.probe, *into.mutable_probe());
    }
}

} // namespace

std::string_view name_of(JobKind kind) noexcept {
    switch (kind) {
    case JobKind::migrate:
        return "migrate";
    case JobKind::receive:
        return "receive";
    case JobKind::estimate:
        return "estimate";
    case JobKind::snapshot:
        return "snapshot";
    case JobKind::settle:
        return "settle";
    }
    return "migrate";
}

std::string_view name_of(JobState state) noexcept {
    switch (state) {
    case JobState::running:
        return "running";
    case JobState::done:
        return "done";
    case JobState::failed:
        return "failed";
    case JobState::cancelled:
        return "cancelled";
    case JobState::in_doubt:
        return "in-doubt";
    }
    return "failed";
}

Job::Job(JobKind kind, std::string id, std::string peer, transport::Executor session)
    : kind_{kind},
      id_{std::move(id)},
      peer_{std::move(peer)},
      gate_{session},
      tuner_{session},
      desk_{std::move(session)} {}

void Job::progressed(const migrate::ProgressSnapshot& now) {
    {
        const std::lock_guard lock{mutex_};
        progress_ = now;
    }
    hold_point_.passed(now);
}

void Job::planned(const std::vector<std::string>& findings) {
    const std::lock_guard lock{mutex_};
    plan_ = findings;
}

void Job::finish(
    JobState state, const std::optional<formats::Error>& error, migrate::Report report) {
    const std::lock_guard lock{mutex_};
    state_ = state;
    error_ = error;
    report_ = std::move(report);
}

std::pair<std::string, std::string> Job::ownership() const {
    const std::lock_guard lock{mutex_};
    return {progress_.ownership_state, progress_.ownership};
}

void Job::finish(migrate::Estimation estimation) {
    const std::lock_guard lock{mutex_};
    state_ = JobState::done;
    estimation_ = std::move(estimation);
}

bool Job::is_running() const {
    const std::lock_guard lock{mutex_};
    return state_ == JobState::running;
}

api::Job Job::describe() const {
    api::Job job;
    job.set_id(id_);
    job.set_kind(std::string{name_of(kind_)});
    job.set_peer(peer_);
    const bool is_migration = kind_ == JobKind::migrate || kind_ == JobKind::receive;
    if (is_migration) {
        job.set_commit_point(gate_.is_closed() ? "after" : "before");
    }
    const std::lock_guard lock{mutex_};
    job.set_state(std::string{name_of(state_)});
    tools::describe(progress_, *job.mutable_progress());
    for (const auto& finding : plan_) {
        job.add_plan(finding);
    }
    if (error_) {
        *job.mutable_failure() = failure_from(*error_);
    }
    if (estimation_) {
        tools::describe(*estimation_, *job.mutable_estimate());
    }
    if (state_ != JobState::running && (is_migration || kind_ == JobKind::snapshot)) {
        tools::describe(report_, *job.mutable_report());
    }
    return job;
}

std::string make_migration_id() {
    std::random_device entropy;
    std::string id;
    for (int i = 0; i < 4; ++i) {
        id += fmt::format("{:08x}", entropy());
    }
    return id;
}

} // namespace wherry::tools
