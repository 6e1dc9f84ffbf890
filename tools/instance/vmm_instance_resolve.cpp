// SPDX-License-Identifier: Apache-2.0
// What a person decides who knows which side of a VM in doubt lives on.
#include "tools/instance/vmm_instance.hpp"
#include "tools/json.hpp"

#include <chrono>
#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Status;
using transport::Task;

namespace {

/// For disk and arbiter to follow a person's word. Behind it he hears what is in their way.
constexpr std::chrono::seconds settling_limit{5};
constexpr std::chrono::milliseconds look_every{20};

migrate::Custody custody_of(migrate::Keep keep) {
    return keep == migrate::Keep::source ? migrate::Custody::source : migrate::Custody::destination;
}

} // namespace

Task<std::string> VmmInstance::answer_resolve(std::string body) {
    const auto request = message_from_json<api::ResolveRequest>(body);
    if (!request) {
        co_return fail(request.error());
    }
    if (request->keep() != "source" && request->keep() != "destination") {
        co_return fail(ErrorCode::invalid_argument, "keep must be \"source\" or \"destination\"");
    }
    const auto keep =
        request->keep() == "source" ? migrate::Keep::source : migrate::Keep::destination;
    const auto fencing =
        request->fenced() ? migrate::Fencing::destination_is_dead : migrate::Fencing::none;
    Status done;
    if (!doubt_ && has_running_job()) {
        const auto job = job_;
        done = co_await job->desk().say(
            [keep, fencing](migrate::Owner& owner) { return owner.resolve(keep, fencing); });
        if (done) {
            done = co_await await_custody(keep);
        }
    } else {
        done = resolve(keep, fencing);
    }
    if (!done) {
        co_return fail(std::move(done).error());
    }
    co_return to_json(describe(), JsonLayout::one_line);
}

/// Of a hand-over that goes on with what a person has said: its last record decides.
Task<void> VmmInstance::await_custody(migrate::Keep wished) {
    const auto last_look = std::chrono::steady_clock::now() + settling_limit;
    auto custody = migrate::custody_after(keeper_->last()->record.kind);
    while (custody == migrate::Custody::undetermined) {
        if (std::chrono::steady_clock::now() >= last_look) {
            co_return fail(
                ErrorCode::in_doubt,
                fmt::format(
                    "that the {} is kept was heard, and is not carried out yet: {}",
                    migrate::name_of(custody_of(wished)),
                    explain()));
        }
        auto rested = co_await transport::pause_for(look_every);
        if (!rested) {
            co_return rested;
        }
        custody = migrate::custody_after(keeper_->last()->record.kind);
    }
    if (custody != custody_of(wished)) {
        co_return fail(
            ErrorCode::wrong_state,
            fmt::format("{}: the VM is the {}'s", name_.name(), migrate::name_of(custody)));
    }
    co_return Status{};
}

Status VmmInstance::resolve(migrate::Keep keep, migrate::Fencing fencing) {
    if (!doubt_) {
        return fail(ErrorCode::wrong_state, name_.name() + " is not in doubt: " + explain());
    }
    const auto custody = doubt_->resolve(keep, fencing);
    if (!custody) {
        return fail(custody.error());
    }
    const auto sentence = doubt_->status().sentence;
    if (*custody == migrate::Custody::undetermined) {
        return fail(ErrorCode::wrong_state, sentence); // it waits for the arbiter's word, or theirs
    }
    const bool is_here =
        (*custody == migrate::Custody::source) == (doubt_->here() == migrate::Keep::source);
    epoch_ = doubt_->epoch();
    doubt_.reset();
    situation_ = is_here ? Situation::present : Situation::ended;
    if (!is_here) {
        finish(ExitCode::done);
    }
    if (*custody != custody_of(keep)) {
        return fail(ErrorCode::wrong_state, sentence);
    }
    return {};
}

} // namespace wherry::tools
