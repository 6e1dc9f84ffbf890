// SPDX-License-Identifier: Apache-2.0
// Every message in every state, of an older, this and a newer epoch: what it leads to. What no row
// names must change nothing, so that late and repeated messages are harmless.
#include "tests/unit/migrate/ownership/played.hpp"

#include <array>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::migrate;
using namespace wherry::tests;
using M = MessageKind;
using R = RecordKind;
using action::Timer;

namespace {

constexpr std::array messages{
    M::offer,
    M::commit,
    M::took_back,
    M::ask,
    M::pages_lost,
    M::accept,
    M::running,
    M::refused,
    M::lost,
    M::complete};
constexpr std::array<std::uint64_t, 3> epochs{3, 5, 7};

using Source = Played<SourceOwner>;
using Destination = Played<DestinationOwner>;

struct Row {
    std::string state;
    M message;
    std::uint64_t epoch;
    std::string actions;
};

template <typename Machine>
struct Place {
    std::string name; ///< of the state, and what is particular
    std::function<Machine()> get_there;
};

template <typename Machine>
void check_all(const std::vector<Place<Machine>>& places, const std::vector<Row>& rows) {
    std::size_t used = 0;
    for (const Place<Machine>& place : places) {
        for (const M message : messages) {
            for (const std::uint64_t epoch : epochs) {
                std::string expected;
                const std::size_t used_before = used;
                for (const Row& row : rows) {
                    if (row.state == place.name && row.message == message && row.epoch == epoch) {
                        expected = row.actions;
                        ++used;
                    }
                }
                Machine machine = place.get_there();
                const std::string state = machine.state();
                CAPTURE(place.name);
                CAPTURE(name_of(message));
                CAPTURE(epoch);
                CHECK(machine(said(message, epoch)) == expected);
                const bool is_named = used > used_before;
                CHECK((is_named || machine.state() == state));
            }
        }
    }
    CHECK(used == rows.size());
}

Source holding() {
    Source source{SourceOwner::holding(Epoch{4}, std::nullopt, patience)};
    source(event::Connected{});
    return source;
}
Source offered(const Attempt& attempt) {
    Source source = holding();
    source.play({event::GuestStopped{attempt}, event::AllSent{}, written});
    if (attempt.has_shared_arbiter()) {
        source(says(R::offered, 5));
    }
    return source;
}
Source committed(const Attempt& attempt) {
    Source source = offered(attempt);
    if (attempt.has_shared_arbiter()) {
        source.play({cancelled, says(R::committed, 5), written, says(R::committed, 5)});
    } else {
        source.play({said(M::accept, 5), written});
    }
    return source;
}
Source restarted(R kind, std::uint64_t epoch, const Attempt& attempt) {
    Source source{SourceOwner::restarted(record(kind, epoch, attempt), patience)};
    source(event::Connected{});
    return source;
}

Destination accepted(const Attempt& attempt) {
    Destination destination{DestinationOwner::restarted(std::nullopt, patience)};
    destination.play(
        {event::Connected{}, event::Offered{Epoch{5}, attempt}, event::Loaded{Epoch{5}}, written});
    return destination;
}
Destination running(const Attempt& attempt) {
    Destination destination = accepted(attempt);
    destination.play({said(M::commit, 5), written, started});
    return destination;
}
Destination found(R kind, const Attempt& attempt) {
    return Destination{DestinationOwner::restarted(record(kind, 5, attempt), patience)};
}

} // namespace

TEST_SUITE("migrate.ownership.message_table") {
    TEST_CASE("a source does on each message what the model says, and nothing else") {
        const std::vector<Place<Source>> places{
            {"precopy",
             [] {
                 return holding();
             }},
            {"offer",
             [] {
                 return offered(local());
             }},
            {"offer, shared",
             [] {
                 return offered(shared());
             }},
            {"committed",
             [] {
                 return committed(local());
             }},
            {"committed, shared",
             [] {
                 return committed(shared());
             }},
            {"committed, post-copy",
             [] {
                 return committed(local(true));
             }},
            {"in-doubt, OFFERED",
             [] {
                 return restarted(R::offered, 5, local());
             }},
            {"in-doubt, COMMITTED",
             [] {
                 return restarted(R::committed, 5, local());
             }},
            {"reclaiming, shared",
             [] {
                 Source source = offered(shared());
                 source.play({cancelled, says(R::offered, 5)});
                 return source;
             }},
            {"serving",
             [] {
                 Source source = committed(local(true));
                 source(said(M::running, 5));
                 return source;
             }},
            {"split",
             [] {
                 Source source = committed(local(true));
                 source(said(M::lost, 5));
                 return source;
             }},
            {"split, no memory",
             [] {
                 Source source = restarted(R::committed, 5, local(true));
                 source(said(M::running, 5));
                 return source;
             }},
            {"handed-off",
             [] {
                 return restarted(R::handed_off, 5, local());
             }},
            {"lost",
             [] {
                 return restarted(R::reclaimed, 6, local());
             }},
        };
        std::vector<Row> rows{
            {"offer", M::accept, 5, "write COMMITTED(5)"},
            {"offer", M::refused, 5, "write RECLAIMED(6)"},
            {"offer, shared", M::refused, 5, "ask for RECLAIMED(6)"},
            {"offer, shared", M::running, 5, "write HANDED_OFF(5)"},
            {"offer, shared", M::lost, 5, "write HANDED_OFF(5)"},
            {"committed", M::accept, 5, "send commit(5)"},
            {"committed", M::running, 5, "write HANDED_OFF(5)"},
            {"committed", M::lost, 5, "write HANDED_OFF(5)"},
            {"committed", M::refused, 5, "write RECLAIMED(6)"},
            {"committed, shared", M::running, 5, "write HANDED_OFF(5)"},
            {"committed, shared", M::lost, 5, "write HANDED_OFF(5)"},
            {"committed, shared", M::refused, 5, "read the arbiter"},
            {"committed, post-copy", M::accept, 5, "send commit(5)"},
            {"committed, post-copy", M::running, 5, ""},
            {"committed, post-copy", M::lost, 5, ""},
            {"committed, post-copy", M::refused, 5, "write RECLAIMED(6)"},
            {"committed, post-copy", M::complete, 5, "write HANDED_OFF(5)"},
            {"in-doubt, OFFERED", M::accept, 5, "write COMMITTED(5)"},
            {"in-doubt, OFFERED", M::running, 5, "write HANDED_OFF(5)"},
            {"in-doubt, OFFERED", M::lost, 5, "write HANDED_OFF(5)"},
            {"in-doubt, OFFERED", M::refused, 5, "write RECLAIMED(6)"},
            {"in-doubt, COMMITTED", M::accept, 5, "send commit(5)"},
            {"in-doubt, COMMITTED", M::running, 5, "write HANDED_OFF(5)"},
            {"in-doubt, COMMITTED", M::lost, 5, "write HANDED_OFF(5)"},
            {"in-doubt, COMMITTED", M::refused, 5, "write RECLAIMED(6)"},
            {"reclaiming, shared", M::running, 5, "write HANDED_OFF(5)"},
            {"reclaiming, shared", M::lost, 5, "write HANDED_OFF(5)"},
            {"serving", M::complete, 5, "write HANDED_OFF(5)"},
            {"serving", M::lost, 5, ""},
            {"split", M::complete, 5, "write HANDED_OFF(5)"},
            {"split, no memory", M::running, 5, "send pages_lost(5)"},
            {"split, no memory", M::complete, 5, "write HANDED_OFF(5)"},
            {"split, no memory", M::lost, 5, "write HANDED_OFF(5)"},
        };
        // Who asks late about what was taken back hears so, whatever this side does meanwhile.
        for (const Place<Source>& place : places) {
            rows.push_back({place.name, M::accept, 3, "send took_back(3)"});
        }
        rows.push_back({"lost", M::accept, 5, "send took_back(5)"});
        check_all(places, rows);
    }

    TEST_CASE("a destination does on each message what the model says, and nothing else") {
        const std::vector<Place<Destination>> places{
            {"idle",
             [] {
                 return Destination{DestinationOwner::restarted({}, patience)};
             }},
            {"accepted",
             [] {
                 return accepted(local());
             }},
            {"accepted, shared",
             [] {
                 return accepted(shared());
             }},
            {"in-doubt",
             [] {
                 Destination destination = accepted(local());
                 destination(cut);
                 return destination;
             }},
            {"starting",
             [] {
                 Destination destination = accepted(local());
                 destination.play({said(M::commit, 5), unwritten});
                 return destination;
             }},
            {"done",
             [] {
                 return running(local());
             }},
            {"faulting",
             [] {
                 return running(local(true));
             }},
            {"done, post-copy",
             [] {
                 Destination destination = running(local(true));
                 destination.play({event::LastPagePlaced{}, written});
                 return destination;
             }},
            {"split",
             [] {
                 Destination destination = running(local(true));
                 destination(said(M::pages_lost, 5));
                 return destination;
             }},
            {"abandoned",
             [] {
                 return found(R::abandoned, local());
             }},
            {"lost",
             [] {
                 return found(R::running, local());
             }},
            {"in-doubt, RUNNING",
             [] {
                 return found(R::running, shared());
             }},
            {"salvaged",
             [] {
                 return found(R::salvaged, local(true));
             }},
        };
        const std::vector<Row> rows{
            {"idle", M::commit, 3, "drop, write ABANDONED(3)"},
            {"idle", M::commit, 5, "drop, write ABANDONED(5)"},
            {"idle", M::commit, 7, "drop, write ABANDONED(7)"},
            {"idle", M::ask, 3, "drop, write ABANDONED(3)"},
            {"idle", M::ask, 5, "drop, write ABANDONED(5)"},
            {"idle", M::ask, 7, "drop, write ABANDONED(7)"},
            {"accepted", M::commit, 5, "write RUNNING(5)"},
            {"accepted", M::ask, 5, "send accept(5)"},
            {"accepted", M::took_back, 5, "drop, write ABANDONED(5)"},
            {"accepted, shared", M::ask, 5, "send accept(5)"},
            {"accepted, shared", M::took_back, 5, "drop, write ABANDONED(5)"},
            {"in-doubt", M::commit, 5, "write RUNNING(5)"},
            {"in-doubt", M::ask, 5, "send accept(5)"},
            {"in-doubt", M::took_back, 5, "drop, write ABANDONED(5)"},
            {"done", M::commit, 5, "send running(5)"},
            {"done", M::ask, 5, "send running(5)"},
            {"faulting", M::commit, 5, "send running(5)"},
            {"faulting", M::ask, 5, "send running(5)"},
            {"faulting", M::pages_lost, 5, "stop"},
            {"done, post-copy", M::commit, 5, "send complete(5)"},
            {"done, post-copy", M::ask, 5, "send complete(5)"},
            {"split", M::commit, 5, "send running(5)"},
            {"split", M::ask, 5, "send running(5)"},
            {"abandoned", M::commit, 5, "send refused(5)"},
            {"abandoned", M::commit, 7, "drop, write ABANDONED(7)"},
            {"abandoned", M::ask, 5, "send refused(5)"},
            {"abandoned", M::ask, 7, "drop, write ABANDONED(7)"},
            {"lost", M::commit, 5, "send lost(5)"},
            {"lost", M::ask, 5, "send lost(5)"},
        };
        check_all(places, rows);
    }
}
