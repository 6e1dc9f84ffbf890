// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/offline_resolve.hpp"

#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/in_doubt_guest.hpp"
#include "migrate/ownership/source_owner.hpp"
#include "tools/instance/keeper.hpp"
#include "tools/instance/persons_word.hpp"

#include <memory>
#include <utility>

#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

namespace {

/// What a guest without memory does when it is told to go on: it is booted, by `wherry run`.
Status nothing_to_start() {
    return {};
}

Result<migrate::OwnershipStatus> decide(const std::string& name, const PersonsWord& word) {
    auto keeper = InstanceKeeper::open(name);
    if (!keeper) {
        return formats::fail(std::move(keeper).error());
    }
    const auto last = (*keeper)->last();
    if (!last) {
        return formats::fail(
            ErrorCode::not_found,
            fmt::format("there is no VM {} on this host, and no journal of one", name));
    }
    (*keeper)->begin(
        {.side = last->side,
         .peer = last->peer,
         .tls_directory = last->tls_directory,
         .listens_on = last->listens_on});
    const bool is_source = migrate::is_of_source(last->record.kind);
    std::unique_ptr<migrate::Owner> owner;
    if (is_source) {
        owner = migrate::SourceOwner::restarted(last->record, {});
    } else {
        owner = migrate::DestinationOwner::restarted(last->record, {});
    }
    migrate::InDoubtGuest guest{
        std::move(owner),
        **keeper,
        is_source ? migrate::Keep::source : migrate::Keep::destination,
        nothing_to_start};
    const auto custody = guest.resolve(word.keep, word.assurance);
    if (!custody) {
        return formats::fail(custody.error());
    }
    const auto status = guest.status();
    if (*custody != migrate::custody_of(word.keep)) {
        return formats::fail(ErrorCode::wrong_state, status.sentence);
    }
    return status;
}

} // namespace

ExitCode resolve_offline(const std::string& name, const api::ResolveRequest& request) {
    const auto word = persons_word_in(request);
    if (!word) {
        return fail_with(word.error());
    }
    const auto status = decide(name, *word);
    if (!status) {
        return fail_with(status.error());
    }
    fmt::print("{}: {}: {}\n", name, status->state, status->sentence);
    return ExitCode::done;
}

} // namespace wherry::tools
