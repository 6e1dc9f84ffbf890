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

} // namespace

Task<std::string> VmmInstance::answer_resolve(std::string body) {
    const auto request = message_from_json<api::ResolveRequest>(body);
    if (!request) {
        co_return fail(request.error());
    }
    const auto word = persons_word_in(*request);
    if (!word) {
        co_return fail(word.error());
    }
    Status done;
    if (!doubt_ && has_running_job()) {
        const auto job = job_;
        done = co_await job->desk().say([said = *word](migrate::Owner& owner) {
            return owner.resolve(said.keep, said.assurance);
        });
        if (done) {
            done = co_await await_custody(word->keep);
        }
    } else {
        done = resolve(*word);
    }
    if (!done) {
        co_return fail(std::move(done).error());
    }
    co_return to_json(describe(), JsonLayout::one_line);
}

/// Of a hand-over that goes on with what a person has said: its last record decides.
Task<void> VmmInstance::await_custody(migrate::Keep wished) {
    const auto custody_now = [this] {
        const auto last = keeper_->last();
        return last ? migrate::custody_after(last->record.kind) : migrate::Custody::undetermined;
    };
    const auto last_look = std::chrono::steady_clock::now() + settling_limit;
    auto custody = custody_now();
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
        custody = custody_now();
    }
    if (custody != custody_of(wished)) {
        co_return fail(
            ErrorCode::wrong_state,
            fmt::format("{}: the VM is the {}'s", name_.name(), migrate::name_of(custody)));
    }
    co_return Status{};
}

Status VmmInstance::resolve(const PersonsWord& word) {
    if (!doubt_) {
        const auto state = explain();
        return fail(
            ErrorCode::wrong_state,
            fmt::format("{} is not in doubt{}{}", name_.name(), state.empty() ? "" : ": ", state));
    }
    const auto custody = doubt_->resolve(word.keep, word.assurance);
    if (!custody) {
        return fail(custody.error());
    }
    const auto sentence = doubt_->status().sentence;
    if (*custody == migrate::Custody::undetermined) {
        return fail(ErrorCode::wrong_state, sentence); // it waits for the arbiter's word, or theirs
    }
    const bool is_here = *custody == custody_of(doubt_->here());
    epoch_ = doubt_->epoch();
    doubt_.reset();
    situation_ = is_here ? Situation::present : Situation::ended;
    if (!is_here) {
        finish(ExitCode::done);
    }
    if (*custody != custody_of(word.keep)) {
        return fail(ErrorCode::wrong_state, sentence);
    }
    return {};
}

} // namespace wherry::tools
