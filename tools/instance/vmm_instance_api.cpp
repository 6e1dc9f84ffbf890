// SPDX-License-Identifier: Apache-2.0
// What the API of an instance answers. The routes are listed in docs/api.md.
#include "tools/instance/destination.hpp"
#include "tools/instance/request_numbers.hpp"
#include "tools/instance/vmm_instance.hpp"
#include "tools/json.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using transport::Task;

namespace {

constexpr std::string_view jobs_path = "/v1/jobs/";

std::unexpected<formats::Error> no_such_route(const ApiCall& call) {
    return fail(ErrorCode::not_found, fmt::format("there is no {} {}", call.method, call.path));
}

/// Of a MigrateRequest or a TuneRequest.
template <typename Request>
Status check_numbers(const Request& request) {
    return tools::check_numbers(
        {{"downtime_ms", request.downtime_ms()},
         {"bandwidth", request.bandwidth()},
         {"postcopy_bandwidth", request.postcopy_bandwidth()},
         {"deadline_ms", request.deadline_ms()}});
}

Result<migrate::Policy> policy_from(const api::MigrateRequest& request) {
    migrate::Policy policy;
    if (auto good = check_numbers(request); !good) {
        return fail(std::move(good).error());
    }
    if (request.downtime_ms() > 0) {
        policy.downtime = from_ms(request.downtime_ms());
    }
    if (request.bandwidth() > 0) {
        policy.bandwidth = rate_from(request.bandwidth());
    }
    if (request.deadline_ms() > 0) {
        policy.deadline = from_ms(request.deadline_ms());
    }
    if (!request.on_stall().empty()) {
        const auto on_stall = migrate::on_stall_from(request.on_stall());
        if (!on_stall) {
            return fail(on_stall.error());
        }
        policy.on_stall = *on_stall;
    }
    if (request.postcopy_bandwidth() > 0) {
        policy.postcopy_bandwidth = rate_from(request.postcopy_bandwidth());
    }
    if (request.has_recover_timeout_ms()) {
        policy.recover_timeout = from_ms(request.recover_timeout_ms());
    }
    if (request.mode() == "hybrid") {
        policy.mode = migrate::Mode::hybrid;
    } else if (!request.mode().empty() && request.mode() != "precopy") {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("'{}' is no mode: it is precopy or hybrid", request.mode()));
    }
    if (request.streams() > 0) {
        policy.streams = request.streams();
    }
    if (auto good = policy.check(); !good) {
        return fail(std::move(good).error());
    }
    return policy;
}

Result<migrate::PolicyChange> change_from(const api::TuneRequest& request) {
    if (auto good = check_numbers(request); !good) {
        return fail(std::move(good).error());
    }
    migrate::PolicyChange change;
    if (request.has_downtime_ms()) {
        change.downtime = from_ms(request.downtime_ms());
    }
    if (request.has_bandwidth()) {
        change.bandwidth.emplace();
        if (request.bandwidth() > 0) {
            change.bandwidth->emplace(rate_from(request.bandwidth()));
        }
    }
    if (request.has_postcopy_bandwidth()) {
        change.postcopy_bandwidth.emplace();
        if (request.postcopy_bandwidth() > 0) {
            change.postcopy_bandwidth->emplace(rate_from(request.postcopy_bandwidth()));
        }
    }
    if (request.has_deadline_ms()) {
        change.deadline.emplace();
        if (request.deadline_ms() > 0) {
            change.deadline->emplace(from_ms(request.deadline_ms()));
        }
    }
    if (request.has_on_stall()) {
        const auto on_stall = migrate::on_stall_from(request.on_stall());
        if (!on_stall) {
            return fail(on_stall.error());
        }
        change.on_stall = *on_stall;
    }
    return change;
}

Status tune(Job& job, const std::string& body) {
    const auto request = message_from_json<api::TuneRequest>(body);
    if (!request) {
        return fail(request.error());
    }
    const auto change = change_from(*request);
    if (!change) {
        return fail(change.error());
    }
    return job.tuner().change(*change);
}

Status cancel(Job& job) {
    if (job.gate().request_cancel() == migrate::CancelAnswer::will_cancel) {
        return {};
    }
    if (job.kind() == JobKind::estimate) {
        return fail(ErrorCode::wrong_state, "too late to cancel: the estimate is there");
    }
    if (job.kind() == JobKind::snapshot) {
        return fail(ErrorCode::wrong_state, "too late to cancel: the image is there, or all but");
    }
    return fail(
        ErrorCode::wrong_state,
        job.kind() == JobKind::migrate
            ? "too late to cancel: the VM is past the commit point and belongs to the destination"
            : "too late to cancel: the VM has been accepted here, and the source decides now");
}

Task<void> switch_to_postcopy(std::shared_ptr<Job> job, std::string vm_name) {
    const bool moves_vm = job->kind() != JobKind::estimate && job->kind() != JobKind::snapshot;
    if (!moves_vm || !job->is_running()) {
        co_return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "{0} is not being migrated; to move it by post-copy: wherry migrate {0} --mode "
                "hybrid",
                vm_name));
    }
    if (job->kind() == JobKind::receive) {
        co_return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "{} comes in here, and how is for its source to say: wherry postcopy there",
                vm_name));
    }
    co_return co_await job->desk().switch_to_postcopy();
}

/// "a VM cannot be moved while ..."
std::string_view what_happens_in(const Job& job) {
    switch (job.kind()) {
    case JobKind::estimate:
        return "an estimate watches it";
    case JobKind::snapshot:
        return "a snapshot of it is taken";
    case JobKind::migrate:
    case JobKind::receive:
    case JobKind::settle:
        break;
    }
    return "it is being migrated";
}

} // namespace

Task<std::string> VmmInstance::answer(ApiCall call) {
    if (call.path.starts_with(jobs_path)) {
        co_return co_await answer_job(std::move(call));
    }
    if (call.method == "POST" && call.path == "/v1/vm/resolve") {
        co_return co_await answer_resolve(std::move(call.body));
    }
    if (call.method == "POST" && call.path == "/v1/vm/salvage") {
        co_return co_await answer_salvage(std::move(call.body));
    }
    if (call.method == "POST" && call.path == "/v1/vm/resume") {
        co_return co_await answer_resume();
    }
    if (call.method == "POST" && call.path == "/v1/vm/kill") {
        co_return co_await answer_kill();
    }
    co_return answer_vm(call);
}

Result<std::string> VmmInstance::answer_vm(const ApiCall& call) {
    const bool posts = call.method == "POST";
    Status done;
    if (posts && call.path == "/v1/vm/migrate") {
        return start_migration(call.body);
    }
    if (posts && call.path == "/v1/vm/estimate") {
        return start_estimate(call.body);
    }
    if (posts && call.path == "/v1/vm/snapshot") {
        return start_snapshot(call.body);
    }
    if (posts && call.path == "/v1/vm/pause") {
        done = pause();
    } else if (call.method != "GET" || call.path != "/v1/vm") {
        return no_such_route(call);
    }
    if (!done) {
        return fail(std::move(done).error());
    }
    return to_json(describe(), JsonLayout::one_line);
}

Task<std::string> VmmInstance::answer_job(ApiCall call) {
    const auto what = std::string_view{call.path}.substr(jobs_path.size());
    const auto slash = std::min(what.find('/'), what.size());
    const auto id = what.substr(0, slash);
    const auto verb = what.substr(slash);
    const auto job = job_;
    if (!job || job->id() != id) {
        co_return fail(ErrorCode::not_found, fmt::format("there is no job {}", id));
    }
    Status done;
    if (call.method == "POST" && verb == "/cancel") {
        done = cancel(*job);
    } else if (call.method == "POST" && verb == "/set") {
        done = tune(*job, call.body);
    } else if (call.method == "POST" && verb == "/postcopy") {
        done = co_await switch_to_postcopy(job, name_.name());
    } else if (call.method != "GET" || !verb.empty()) {
        co_return no_such_route(call);
    }
    if (!done) {
        co_return fail(std::move(done).error());
    }
    // A watcher's question waits for news, but never long: progress is news too.
    constexpr std::chrono::milliseconds look_again{25};
    for (int looks = 0; call.query == "wait" && looks < 8 && job->is_running(); ++looks) {
        auto waited = co_await transport::pause_for(look_again);
        if (!waited) {
            co_return fail(std::move(waited).error());
        }
    }
    if (!job->is_running() && finishing_) {
        leave_after(shortest_farewell); // this client has its last news
    }
    co_return to_json(job->describe(), JsonLayout::one_line);
}

Result<std::string> VmmInstance::start_migration(const std::string& body) {
    const auto request = message_from_json<api::MigrateRequest>(body);
    if (!request) {
        return fail(request.error());
    }
    if (auto ours = require_own_vm("migrated"); !ours) {
        return fail(std::move(ours).error());
    }
    auto policy = policy_from(*request);
    if (!policy) {
        return fail(std::move(policy).error());
    }
    auto destination = destination_from(*request);
    if (!destination) {
        return fail(std::move(destination).error());
    }
    const std::string arbiter = request->arbiter().empty() ? "local" : request->arbiter();
    if (auto known = migrate::arbiter_from(arbiter); !known) {
        return fail(std::move(known).error());
    }
    if (settling_) {
        settling_->gate().request_cancel(); // what it still had to say this hand-over overrules
    }
    keeper_->begin({.peer = destination->endpoint, .tls_directory = request->tls_directory()});
    job_ = std::make_shared<Job>(
        JobKind::migrate, make_migration_id(), destination->endpoint, session_.executor());
    migrate::SourceOptions options{
        .vm_name = name_.name(),
        .vm_id = keeper_->vm_id().to_string(),
        .migration_id = job_->id(),
        .epoch = epoch_,
        .policy = *policy,
        .arbiter = arbiter,
        .keeper = keeper_.get(),
        .last_record = last_record_of(keeper_->vm_id()),
        .desk = &job_->desk(),
        .tuner = &job_->tuner()};
    when_image_is_whole(
        [this, options = std::move(options), connect = std::move(destination->connect)]() mutable {
            auto session = migrate::run_source(
                *machine_, std::move(options), std::move(connect), job_->gate(), *job_);
            transport::spawn(
                session_.executor(),
                std::move(session),
                [this](Result<migrate::SourceOutcome> outcome) {
                    formats::invariant(outcome.has_value(), "a source session has an outcome");
                    boost::asio::post(context_, [this, result = *std::move(outcome)]() mutable {
                        source_concluded(std::move(result));
                    });
                });
        });
    return to_json(job_->describe(), JsonLayout::one_line);
}

Status VmmInstance::require_own_vm(std::string_view wish) const {
    if (auto failure = image_failure()) {
        return fail(
            ErrorCode::wrong_state,
            fmt::format("{} cannot be {}: {}", name_.name(), wish, explain_image()));
    }
    if (has_running_job() && waits_for_image_) {
        return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "{} cannot be {} while a job waits for its image; to give that up: wherry cancel "
                "{}",
                name_.name(),
                wish,
                name_.name()));
    }
    return require_control(wish);
}

Status VmmInstance::require_control(std::string_view wish) const {
    if (situation_ != Situation::present || finishing_) {
        return fail(
            ErrorCode::wrong_state,
            fmt::format("{} cannot be {}: {}", name_.name(), wish, explain()));
    }
    if (has_running_job() && !waits_for_image_) {
        return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "{} cannot be {} while {}; to give that up: wherry cancel {}",
                name_.name(),
                wish,
                what_happens_in(*job_),
                name_.name()));
    }
    return {};
}

Status VmmInstance::pause() {
    return formats::then(require_control("paused"), [this] {
        return is_stopping_ ? Status{} : machine_->pause(); // it stands still already
    });
}

Task<std::string> VmmInstance::answer_resume() {
    if (auto possible = require_control("resumed"); !possible) {
        co_return fail(std::move(possible).error());
    }
    if (image_failure() || is_stopping_) {
        auto retried = co_await retry_image();
        if (!retried) {
            co_return fail(std::move(retried).error());
        }
        if (auto possible = require_control("resumed"); !possible) {
            co_return fail(std::move(possible).error());
        }
    }
    auto resumed = machine_->resume();
    if (!resumed) {
        co_return fail(std::move(resumed).error());
    }
    co_return to_json(describe(), JsonLayout::one_line);
}

Task<std::string> VmmInstance::answer_kill() {
    const bool arrives = has_running_job() && job_->kind() == JobKind::receive;
    Status killed;
    if (arrives && !job_->ownership().first.empty()) {
        killed = co_await end_in_hand_over();
    } else {
        killed = kill();
    }
    if (!killed) {
        co_return fail(std::move(killed).error());
    }
    co_return to_json(describe(), JsonLayout::one_line);
}

/// A guest that has begun to run here, and waits for memory that does not come.
Task<void> VmmInstance::end_in_hand_over() {
    auto ended = co_await job_->desk().say([](migrate::Owner& owner) { return owner.end_here(); });
    if (!ended) {
        co_return fail(
            ended.error().code(),
            fmt::format("{} cannot be killed: {}", name_.name(), ended.error().text()));
    }
    leaves_memory_ = true;
    situation_ = Situation::ended;
    finish(ExitCode::done);
    co_return ended;
}

Status VmmInstance::kill() {
    if (situation_ == Situation::listening && refuse_arrivals()) {
        finish(ExitCode::done);
        return {};
    }
    const bool drops_half = situation_ == Situation::salvaged && !half_->is_being_written;
    const auto possible = drops_half ? Status{} : require_control("killed");
    return formats::then(possible, [this]() -> Status {
        if (waits_for_image_) {
            job_waits_no_more({ErrorCode::cancelled, "the VM was killed"});
        }
        auto stopped = is_stopping_ ? Status{} : machine_->pause();
        situation_ = Situation::ended;
        finish(ExitCode::done);
        return stopped;
    });
}

} // namespace wherry::tools
