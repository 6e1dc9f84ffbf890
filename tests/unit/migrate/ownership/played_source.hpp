// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/source_owner.hpp"
#include "tests/unit/migrate/ownership/played.hpp"

#include <doctest/doctest.h>

/// A source in each of the states from which it goes on.
namespace wherry::tests {

using Source = Played<migrate::SourceOwner>;

/// Holds the VM at epoch 4, so that it is offered as 5; connected.
inline Source holding() {
    Source source{migrate::SourceOwner::holding(migrate::Epoch{4}, std::nullopt, patience)};
    source(migrate::event::Connected{});
    return source;
}
inline Source
restarted(migrate::RecordKind kind, const migrate::Attempt& attempt, std::uint64_t epoch = 5) {
    return Source{migrate::SourceOwner::restarted(record(kind, epoch, attempt), patience)};
}
inline Source offered(const migrate::Attempt& attempt) {
    Source source = holding();
    source.play({migrate::event::GuestStopped{attempt}, migrate::event::AllSent{}, written});
    if (attempt.has_shared_arbiter()) {
        source(says(migrate::RecordKind::offered, 5));
    }
    REQUIRE(source.state() == "offer");
    return source;
}
inline Source committed(const migrate::Attempt& attempt) {
    Source source = offered(attempt);
    if (attempt.has_shared_arbiter()) {
        source.play({cancelled, says(migrate::RecordKind::committed, 5), written});
    } else {
        source.play({said(migrate::MessageKind::accept, 5), written});
    }
    REQUIRE(source.state() == "committed");
    return source;
}
inline Source in_doubt(const migrate::Attempt& attempt) {
    Source source = committed(attempt);
    source.expire(migrate::action::Timer::wait);
    REQUIRE(source.state() == "in-doubt");
    return source;
}
inline Source serving() {
    Source source = committed(local(true));
    source(said(migrate::MessageKind::running, 5));
    REQUIRE(source.state() == "serving");
    return source;
}

} // namespace wherry::tests
