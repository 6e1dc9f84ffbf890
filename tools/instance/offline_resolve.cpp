// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/offline_resolve.hpp"

#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/in_doubt_guest.hpp"
#include "migrate/ownership/source_owner.hpp"
#include "tools/instance/keeper.hpp"

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

Result<migrate::OwnershipStatus>
decide(const std::string& name, migrate::Keep keep, migrate::Fencing fencing) {
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
    const auto custody = guest.resolve(keep, fencing);
    if (!custody) {
        return formats::fail(custody.error());
    }
    const auto status = guest.status();
    const auto wished =
        keep == migrate::Keep::source ? migrate::Custody::source : migrate::Custody::destination;
    if (*custody != wished) {
        return formats::fail(ErrorCode::wrong_state, status.sentence);
    }
    return status;
}

} // namespace

ExitCode resolve_offline(const std::string& name, const std::string& keep, bool fenced) {
    const auto which = keep == "source" ? migrate::Keep::source : migrate::Keep::destination;
    const auto fencing = fenced ? migrate::Fencing::destination_is_dead : migrate::Fencing::none;
    const auto status = decide(name, which, fencing);
    if (!status) {
        return fail_with(status.error());
    }
    fmt::print("{}: {}: {}\n", name, status->state, status->sentence);
    return ExitCode::done;
}

} // namespace wherry::tools
