// SPDX-License-Identifier: Apache-2.0
// What an instance does about a hand-over that has no session: it was cut short by the end of this
// process or the other side's, or is over, and the other side has not heard of it.
#include "tools/instance/security.hpp"
#include "tools/instance/vmm_instance.hpp"

#include <ranges>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::Result;
using formats::Status;
using migrate::RecordKind;

namespace {

/// Whether a VM of which this is the last record is, or may be, this side's: a copy that was only
/// accepted is not.
bool is_claim(RecordKind kind) {
    const bool is_held_as_source = is_of_source(kind) && kind != RecordKind::handed_off;
    return is_held_as_source || kind == RecordKind::running || kind == RecordKind::done;
}

} // namespace

Status VmmInstance::settle(Starter start) {
    const auto last = keeper_->last();
    auto to = transport::Endpoint::parse(last->peer);
    if (!to) {
        return formats::fail(std::move(to).error().during("reading the VM's journal"));
    }
    auto security = client_security(last->tls_directory);
    if (!security) {
        return formats::fail(std::move(security).error().during(fmt::format(
            "{} was being handed over to {} when its process ended, and to ask there",
            name_.name(),
            last->peer)));
    }
    situation_ = Situation::in_doubt;
    keeper_->begin({.peer = last->peer, .tls_directory = last->tls_directory});
    job_ = std::make_shared<Job>(
        JobKind::settle, last->record.migration_id, last->peer, session_.executor());
    settling_ = job_;
    migrate::RestartedSourceOptions options{
        .last = last->record,
        .vm_id = last->vm_id.to_string(),
        .policy = {},
        .keeper = keeper_.get(),
        .desk = &job_->desk(),
        .boot = [this, start = std::move(start)]() -> Status {
            auto machine = start();
            if (!machine) {
                return formats::fail(std::move(machine).error());
            }
            boost::asio::post(context_, [this, booted = *std::move(machine)]() mutable {
                epoch_ = keeper_->last()->record.epoch;
                settling_->finish(JobState::done, std::nullopt, {});
                adopt(std::move(booted));
            });
            return {};
        }};
    fmt::print(
        stderr,
        "wherry: {0} was being handed over to {1} as epoch {2} when its process ended; which side "
        "has it is being found out (wherry status {0})\n",
        name_.name(),
        last->peer,
        static_cast<std::uint64_t>(last->record.epoch));
    auto settling = migrate::settle_restarted_source(
        std::move(options),
        [to = *std::move(to), security = *std::move(security)](
            migrate::ChannelRole, std::uint32_t) { return transport::connect(to, security, {}); },
        job_->gate(),
        *job_);
    transport::spawn(
        session_.executor(),
        std::move(settling),
        [this, job = job_](Result<migrate::RestartedSourceOutcome> outcome) {
            formats::invariant(outcome.has_value(), "what is found out is in the outcome");
            boost::asio::post(context_, [this, result = *std::move(outcome)] { settled(result); });
        });
    return {};
}

void VmmInstance::settled(const migrate::RestartedSourceOutcome& outcome) {
    const auto job = std::exchange(settling_, nullptr);
    if (situation_ != Situation::in_doubt) {
        return; // it was booted, and who had to hear of it has
    }
    using enum migrate::SourceOwnerState;
    fmt::print(stderr, "wherry: {}: {}\n", name_.name(), outcome.sentence);
    if (outcome.state == handed_off || outcome.state == salvaged) {
        situation_ = Situation::handed_off;
        job->finish(JobState::done, std::nullopt, {});
        finish(ExitCode::done);
    } else if (outcome.state == lost) {
        situation_ = Situation::ended;
        job->finish(JobState::failed, formats::Error{ErrorCode::wrong_state, outcome.sentence}, {});
        finish(ExitCode::failed);
    } else {
        job->finish(JobState::in_doubt, formats::Error{ErrorCode::in_doubt, outcome.sentence}, {});
        finish(ExitCode::in_doubt);
    }
}

Result<std::unique_ptr<migrate::DestinationOwner>>
VmmInstance::owner_for(const migrate::Inquiry& inquiry, const std::string& peer) {
    auto vm = migrate::VmId::parse(inquiry.vm_id);
    if (!vm) {
        return formats::fail(std::move(vm).error().during("the source's name for the VM"));
    }
    const auto refuse = [this](std::string_view why) {
        return formats::fail(ErrorCode::refused, fmt::format("{} {}", name_.name(), why));
    };
    if (is_taking_in_ || arrived_as_ == migrate::DestinationState::in_doubt) {
        return refuse("has a VM in hand, and cannot say yet what becomes of it; ask again");
    }
    const auto patience = migrate::Policy{}.ownership_patience();
    const auto records = keeper_->records_of(*vm);
    const auto offered = static_cast<std::uint64_t>(inquiry.channel.epoch) + 1;
    if (arrived_as_) {
        for (const auto& record : records | std::views::reverse) {
            const bool is_whole = record.kind == RecordKind::done ||
                                  (record.kind == RecordKind::running && !record.pages_missing);
            const bool has_run = is_whole || record.kind == RecordKind::running;
            if (record.epoch != migrate::Epoch{offered} || !has_run) {
                continue;
            }
            if (was_booted_again_) {
                return migrate::DestinationOwner::booted_again(record, patience);
            }
            if (is_whole) {
                return migrate::DestinationOwner::holding(record, patience);
            }
        }
        return refuse("has a VM, by another hand-over than this one");
    }
    const auto last = keeper_->last();
    const bool is_claimed = last && is_claim(last->record.kind);
    if (is_claimed && last->vm_id != *vm) {
        return refuse("has another VM, and knows nothing of this one");
    }
    if (is_claimed && migrate::is_of_source(last->record.kind)) {
        return refuse("was handing it on itself when its process ended; start it by wherry run");
    }
    keeper_->begin(origin_of_arrivals(peer));
    keeper_->set_vm_id(*vm);
    const auto known =
        records.empty() ? std::optional<migrate::OwnershipRecord>{} : std::optional{records.back()};
    return migrate::DestinationOwner::restarted(known, patience);
}

} // namespace wherry::tools
