// SPDX-License-Identifier: Apache-2.0
// The estimate of a migration, as a job of the instance: no migration while it watches the guest,
// and the other way round, since a machine has one dirty tracker at a time.
#include "migrate/estimation.hpp"
#include "tools/instance/destination.hpp"
#include "tools/instance/request_numbers.hpp"
#include "tools/instance/vmm_instance.hpp"
#include "tools/json.hpp"

#include <utility>

#include <boost/asio/post.hpp>

namespace wherry::tools {

using formats::fail;
using formats::Result;

namespace {

Result<migrate::EstimationOptions> options_from(const api::EstimateRequest& request) {
    if (auto good = check_numbers(
            {{"for_ms", request.for_ms()},
             {"downtime_ms", request.downtime_ms()},
             {"bandwidth", request.bandwidth()}});
        !good) {
        return fail(std::move(good).error());
    }
    migrate::EstimationOptions options;
    if (request.for_ms() > 0) {
        options.for_time = from_ms(request.for_ms());
    }
    if (request.downtime_ms() > 0) {
        options.policy.downtime = from_ms(request.downtime_ms());
    }
    if (request.bandwidth() > 0) {
        options.policy.bandwidth = rate_from(request.bandwidth());
    }
    if (auto good = options.check(); !good) {
        return fail(std::move(good).error());
    }
    return options;
}

} // namespace

Result<std::string> VmmInstance::start_estimate(const std::string& body) {
    const auto request = message_from_json<api::EstimateRequest>(body);
    if (!request) {
        return fail(request.error());
    }
    if (auto ours = require_own_vm("watched"); !ours) {
        return fail(std::move(ours).error());
    }
    auto options = options_from(*request);
    if (!options) {
        return fail(std::move(options).error());
    }
    std::string peer;
    if (!request->to().empty()) {
        auto destination = destination_from(*request);
        if (!destination) {
            return fail(std::move(destination).error());
        }
        peer = destination->endpoint;
        auto& asked = options->destination.emplace();
        asked.connect = std::move(destination->connect);
        asked.name.migration_id = make_migration_id();
        asked.name.epoch = epoch_;
        asked.plan.vm_name = name_.name();
        asked.plan.vm_id = keeper_->vm_id().to_string();
    }
    options->known_link = known_link_;
    options->support = machine_->backend().postcopy_obstacle.empty()
                           ? migrate::HybridSupport::both_sides
                           : migrate::HybridSupport::none;
    job_ = std::make_shared<Job>(
        JobKind::estimate, make_migration_id(), std::move(peer), session_.executor());
    when_image_is_whole([this, options = *std::move(options)]() mutable {
        auto estimation =
            migrate::run_estimation(*machine_, std::move(options), job_->gate(), *job_);
        transport::spawn(
            session_.executor(),
            std::move(estimation),
            [this](Result<migrate::Estimation> outcome) {
                boost::asio::post(context_, [this, result = std::move(outcome)]() mutable {
                    estimate_concluded(std::move(result));
                });
            });
    });
    return to_json(job_->describe(), JsonLayout::one_line);
}

void VmmInstance::estimate_concluded(Result<migrate::Estimation> outcome) {
    if (outcome) {
        job_->finish(*std::move(outcome));
    } else {
        const auto& error = outcome.error();
        const bool was_asked_to = error.code() == formats::ErrorCode::cancelled;
        job_->finish(was_asked_to ? JobState::cancelled : JobState::failed, error, {});
        print_error(error);
    }
    catch_up_after_job();
}

} // namespace wherry::tools
