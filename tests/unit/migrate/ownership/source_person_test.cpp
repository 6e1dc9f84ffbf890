// SPDX-License-Identifier: Apache-2.0
// What a person can tell a source.
#include "tests/unit/migrate/ownership/played_source.hpp"

#include <doctest/doctest.h>

using namespace wherry::migrate;
using namespace wherry::tests;
using M = MessageKind;
using R = RecordKind;
using action::Timer;

TEST_SUITE("migrate.ownership.source_owner") {
    TEST_CASE("without the arbiter a person decides as with local") {
        constexpr auto gone = Assurance::arbiter_is_gone;
        SUBCASE("not while it answers") {
            Source source = in_doubt(shared());
            CHECK(source.resolve(Keep::source, gone) == "refused");
            source(unreachable);
            CHECK(source.sentence().find("wherry resolve --no-arbiter") != std::string::npos);
            source(says(R::committed, 5));
            CHECK(source.resolve(Keep::source, gone) == "refused");
        }
        SUBCASE("offered, and not known to be committed") {
            for (const bool pages_missing : {false, true}) {
                Source source = offered(shared(pages_missing));
                source.play({cancelled, unreachable});
                CHECK(source.resolve(Keep::source, gone) == "write RECLAIMED(6)");
                CHECK(source.machine().record()->arbiter != "local"); // not before it is written
                CHECK(source(says(R::committed, 5)).empty());
                CHECK(source(written) == "resume");
                CHECK(source.machine().record()->arbiter == "local");
                CHECK(source(says(R::committed, 5)).empty()); // its word came too late
                CHECK(source(started) == "send took_back(5)");
            }
        }
        SUBCASE("committed") {
            Source source = in_doubt(shared());
            source(unreachable);
            CHECK(source.resolve(Keep::source, gone) == "write RECLAIMED(6)");
            Source there = in_doubt(shared());
            there(unreachable);
            CHECK(there.resolve(Keep::destination, gone) == "write HANDED_OFF(5)");
        }
        SUBCASE("what is refused leaves the decision with the arbiter") {
            Source source = offered(shared(true));
            source.play({cancelled, unreachable});
            CHECK(source.resolve(Keep::destination, gone) == "refused");
            CHECK(source.expire(Timer::retry) == "send ask(5), ask for RECLAIMED(6)");
        }
        SUBCASE("a process that has started again") {
            Source source = restarted(R::offered, shared());
            source(unreachable);
            CHECK(source.resolve(Keep::source, gone) == "write RECLAIMED(6)");
            source(written);
            CHECK(source.state() == "lost");
        }
    }

    TEST_CASE("resolve is final with local, and the arbiter's with a shared one") {
        CHECK(offered(local()).resolve(Keep::source) == "refused");
        CHECK(in_doubt(local()).resolve(Keep::source) == "write RECLAIMED(6)");
        CHECK(in_doubt(local()).resolve(Keep::destination) == "write HANDED_OFF(5)");
        CHECK(in_doubt(local(true)).resolve(Keep::destination) == "refused");

        Source source = in_doubt(shared());
        CHECK(source.resolve(Keep::source) == "refused"); // COMMITTED to the destination
        CHECK(
            source.resolve(Keep::source, Assurance::destination_is_dead) ==
            "ask for RECLAIMED(6) fenced");
        CHECK(source(says(R::reclaimed, 6)) == "write RECLAIMED(6)");

        CHECK(in_doubt(shared()).resolve(Keep::destination) == "write HANDED_OFF(5)");
        Source open = restarted(R::offered, shared());
        CHECK(open.resolve(Keep::destination) == "refused"); // not known to be offered
        open(says(R::offered, 5));
        CHECK(open.resolve(Keep::destination) == "ask for COMMITTED(5)");
        CHECK(open(says(R::committed, 5)) == "write COMMITTED(5)");
        Source once = restarted(R::offered, shared());
        once(says(R::offered, 5));
        once.resolve(Keep::destination);
        CHECK(once(says(R::offered, 5)) == "read the arbiter"); // it was not carried out
        once(says(R::offered, 5));
        CHECK(once.expire(Timer::wait) == "ask for RECLAIMED(6)");
    }

    TEST_CASE("resolve has a way out either way of a source that has only the name of a VM") {
        const auto fenced = Assurance::destination_is_dead;
        SUBCASE("in doubt") {
            CHECK(
                restarted(R::committed, local(true)).resolve(Keep::source) == "write RECLAIMED(6)");
            CHECK(
                restarted(R::committed, local(true)).resolve(Keep::destination) ==
                "write HANDED_OFF(5)");
            CHECK(restarted(R::committed, shared(true)).resolve(Keep::source) == "refused");
            Source read = restarted(R::committed, shared(true));
            read(says(R::committed, 5));
            CHECK(read.resolve(Keep::source, fenced) == "ask for RECLAIMED(6) fenced");
            CHECK(
                restarted(R::committed, shared(true)).resolve(Keep::destination) ==
                "write HANDED_OFF(5)");
        }
        SUBCASE("split: not while the destination that has the other half is there") {
            Source source = restarted(R::committed, local(true));
            source.play({event::Connected{}, said(M::running, 5)});
            CHECK(source.state() == "split");
            CHECK(source.resolve(Keep::source) == "refused");
            source(cut);
            CHECK(source.resolve(Keep::source) == "write RECLAIMED(6)");
            Source there = restarted(R::committed, local(true));
            there.play({event::Connected{}, said(M::running, 5)});
            CHECK(there.resolve(Keep::destination) == "write HANDED_OFF(5)");
        }
        SUBCASE("never given up: what is there is not whole, and never ran") {
            const auto source =
                SourceOwner::restarted(record(R::offered, 5, local(true)), patience);
            const auto refused = source->resolve(Keep::destination);
            REQUIRE(!refused);
            CHECK(refused.error().text().find("keep the source") != std::string::npos);
            CHECK(source->resolve(Keep::source));
        }
        SUBCASE("there is no half of it that could be written") {
            CHECK(restarted(R::committed, local(true)).salvage() == "refused");
        }
        SUBCASE("one that has its memory does not throw it away") {
            Source source = serving();
            source(said(M::lost, 5));
            CHECK(source.state() == "split");
            CHECK(source.resolve(Keep::destination) == "refused");
            CHECK(source.resolve(Keep::source) == "refused");
        }
    }

    TEST_CASE("salvage is for a half that is given up, and the last word of this side") {
        Source source = serving();
        CHECK(source.salvage() == "refused"); // the destination runs it
        source(said(M::lost, 5));
        CHECK(source.state() == "split");
        CHECK(source.salvage() == "write SALVAGED(6)");
        CHECK(source(said(M::complete, 5)).empty());
        CHECK(source(unwritten).empty());
        CHECK(source.expire(Timer::retry) == "write SALVAGED(6)");
        source(written);
        CHECK(source.state() == "salvaged");
        CHECK(source.boot_again() == "refused");
        CHECK(in_doubt(local()).salvage() == "refused"); // the destination has a whole copy
        CHECK(in_doubt(local(true)).salvage() == "write SALVAGED(6)");
        Source alone = serving();
        alone(cut);
        CHECK(alone.salvage() == "write SALVAGED(6)");
    }
}
