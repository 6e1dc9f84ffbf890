// SPDX-License-Identifier: Apache-2.0
// A snapshot of the VM, as a job of the instance: no migration meanwhile, and the other way round.
#include "migrate/image/stream_sink.hpp"
#include "migrate/snapshot_session.hpp"
#include "tools/instance/request_numbers.hpp"
#include "tools/instance/vmm_instance.hpp"
#include "tools/json.hpp"
#include "tools/new_image.hpp"

#include <chrono>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

/// An encrypted one is opened with the key that the new one gets.
Result<std::shared_ptr<migrate::ImageChain>>
base_from(const api::SnapshotRequest& request, const migrate::ImageOptions& image) {
    migrate::ImageAccess access;
    access.key = image.key;
    access.place = migrate::ChainPlace::base;
    auto base = migrate::ImageChain::open(request.base(), access, request.bases());
    if (!base && base.error().code() == ErrorCode::authentication && !image.key) {
        return fail(
            ErrorCode::authentication,
            base.error().text() + "; what is based on it is written with that key: --encrypt");
    }
    if (!base) {
        return fail(std::move(base).error());
    }
    for (const auto& each : base->images()) {
        std::error_code other;
        if (!request.stream() && std::filesystem::equivalent(each.name(), request.file(), other)) {
            return fail(
                ErrorCode::invalid_argument,
                each.name() + " cannot be replaced by an image that is based on it");
        }
    }
    return std::make_shared<migrate::ImageChain>(*std::move(base));
}

Result<migrate::SnapshotOptions> options_from(const api::SnapshotRequest& request) {
    if (auto good = check_numbers({{"downtime_ms", request.downtime_ms()}}); !good) {
        return fail(std::move(good).error());
    }
    migrate::SnapshotOptions options;
    if (request.way() == "paused") {
        options.way = migrate::SnapshotWay::paused;
    } else if (!request.way().empty() && request.way() != "live") {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("'{}' is no way: it is live or paused", request.way()));
    }
    // There is no other host where the guest could go on without its last pages.
    options.policy.on_stall = migrate::OnStall::throttle;
    if (request.downtime_ms() > 0) {
        options.policy.downtime = from_ms(request.downtime_ms());
    }
    NewImage wanted;
    if (!request.layout().empty()) {
        wanted.layout = request.layout();
    }
    if (request.has_level()) {
        wanted.level = request.level();
    }
    wanted.key = request.encrypt();
    wanted.signing_key = request.sign();
    auto image = options_of(wanted);
    if (!image) {
        return fail(std::move(image).error());
    }
    options.image = *std::move(image);
    if (auto good = options.policy.check(); !good) {
        return fail(std::move(good).error());
    }
    if (!request.base().empty()) {
        auto base = base_from(request, options.image);
        if (!base) {
            return fail(std::move(base).error().during("the base"));
        }
        options.base = *std::move(base);
    }
    return options;
}

Result<std::unique_ptr<migrate::ImageSink>>
sink_from(const api::SnapshotRequest& request, const std::shared_ptr<Job>& job) {
    const std::filesystem::path path{request.file()};
    if (!path.is_absolute()) {
        return fail(ErrorCode::invalid_argument, "'file' is the absolute path of the image");
    }
    if (request.stream()) {
        auto stream = migrate::StreamSink::open(path, [weak = std::weak_ptr{job}] {
            const auto there = weak.lock();
            return !there || there->gate().is_requested();
        });
        if (!stream) {
            return fail(std::move(stream).error());
        }
        return *std::move(stream);
    }
    auto file = migrate::NewImageFile::create(
        path, request.replace() ? migrate::ExistingFile::replaced : migrate::ExistingFile::refused);
    if (!file) {
        auto error = std::move(file).error();
        if (error.code() == ErrorCode::already_exists && !request.replace()) {
            return fail(ErrorCode::already_exists, error.text() + ", or replace it: --replace");
        }
        return fail(std::move(error));
    }
    return std::make_unique<migrate::NewImageFile>(*std::move(file));
}

} // namespace

Result<std::string> VmmInstance::start_snapshot(const std::string& body) {
    const auto request = message_from_json<api::SnapshotRequest>(body);
    if (!request) {
        return fail(request.error());
    }
    if (auto ours = require_own_vm("snapshotted"); !ours) {
        return fail(std::move(ours).error());
    }
    auto options = options_from(*request);
    if (!options) {
        return fail(std::move(options).error());
    }
    auto job = std::make_shared<Job>(
        JobKind::snapshot,
        make_migration_id(),
        request->stream() ? "a stream" : request->file(),
        session_.executor());
    auto sink = sink_from(*request, job);
    if (!sink) {
        return fail(std::move(sink).error());
    }
    job_ = std::move(job);
    auto& description = options->description;
    description.extent = migrate::ImageExtent::whole;
    description.plan.vm_name = name_.name();
    description.plan.vm_id = keeper_->vm_id().to_string();
    description.epoch = epoch_;
    description.written_at =
        std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    when_image_is_whole([this, how = *std::move(options), to = *std::move(sink)]() mutable {
        auto session =
            migrate::run_snapshot(*machine_, std::move(how), std::move(to), job_->gate(), *job_);
        transport::spawn(
            session_.executor(),
            std::move(session),
            [this](Result<migrate::SnapshotOutcome> outcome) {
                formats::invariant(outcome.has_value(), "a snapshot has an outcome");
                boost::asio::post(context_, [this, result = *std::move(outcome)]() mutable {
                    snapshot_concluded(std::move(result));
                });
            });
    });
    return to_json(job_->describe(), JsonLayout::one_line);
}

void VmmInstance::snapshot_concluded(migrate::SnapshotOutcome outcome) {
    auto state = JobState::done;
    if (outcome.error) {
        const bool was_asked_to = outcome.error->code() == ErrorCode::cancelled;
        state = was_asked_to ? JobState::cancelled : JobState::failed;
        print_error(*outcome.error);
    }
    job_->finish(state, outcome.error, std::move(outcome.report));
    catch_up_after_job();
}

} // namespace wherry::tools
