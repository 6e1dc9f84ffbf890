// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/migrate/ownership/played_source.hpp"

#include <doctest/doctest.h>

using namespace wherry::migrate;
using namespace wherry::tests;
using M = MessageKind;
using R = RecordKind;
using action::Timer;

TEST_SUITE("migrate.ownership.source_owner") {
    TEST_CASE("with arbiter local each record is on the disk before the word that needs it") {
        Source source = holding();
        CHECK(source(event::GuestStopped{local()}) == "write OFFERED(5)");
        CHECK(source(event::AllSent{}).empty());
        CHECK(source(written) == "send offer(5)");
        CHECK(source.machine().commit_point() == CommitPoint::ahead);
        CHECK(source(said(M::accept, 5)) == "write COMMITTED(5)");
        CHECK(source.machine().commit_point() == CommitPoint::behind);
        CHECK(source(written) == "send commit(5)");
        CHECK(source.custody() == Custody::undetermined);
        CHECK(source(said(M::running, 5)) == "write HANDED_OFF(5)");
        CHECK(source(written) == "drop");
        CHECK(source.state() == "handed-off");
        CHECK(source.custody() == Custody::destination);
    }

    TEST_CASE("the offer leaves when all is sent and the arbiter has it, in whatever order") {
        Source source = holding();
        source(event::GuestStopped{shared()});
        CHECK(source(written) == "ask for OFFERED(5)");
        CHECK(source(says(R::offered, 5)).empty());
        CHECK(source(event::AllSent{}) == "send offer(5)");
        CHECK(source.machine().commit_point() == CommitPoint::arbiter_decides);
    }

    TEST_CASE("with a shared arbiter the destination's word is enough, and no commit is sent") {
        Source source = offered(shared());
        CHECK(source(said(M::accept, 5)).empty());
        CHECK(source(said(M::running, 5)) == "write HANDED_OFF(5)");
        CHECK(source(written) == "drop");
    }

    TEST_CASE("post-copy serves from running to complete, and frees nothing before") {
        for (const Attempt& attempt : {local(true), shared(true)}) {
            Source source = attempt.has_shared_arbiter() ? offered(attempt) : committed(attempt);
            const std::string first = source(said(M::running, 5));
            CHECK(first == (attempt.has_shared_arbiter() ? "write COMMITTED(5)" : ""));
            if (!first.empty()) {
                source(written);
            }
            CHECK(source.state() == "serving");
            CHECK(source(said(M::running, 5)).empty());
            source(cut);
            CHECK(source.expire(Timer::retry) == "connect");
            CHECK(source(event::Connected{}) == "send ask(5)");
            CHECK(source(said(M::complete, 5)) == "write HANDED_OFF(5)");
            CHECK(source(written) == "drop");
        }
    }

    TEST_CASE("before the commit point every failure takes the guest back, at the next epoch") {
        const auto fails = [](Source source, const OwnershipEvent& event) {
            CHECK(source(event) == "write RECLAIMED(6)");
            CHECK(source(written) == "resume");
            // A destination that has refused has no copy, and nothing to be told.
            const auto* word = std::get_if<event::Received>(&event);
            const bool has_refused = word != nullptr && word->kind == M::refused;
            CHECK(source(started) == (has_refused ? "" : "send took_back(5)"));
            CHECK(source.state() == "reclaimed");
            CHECK(source.custody() == Custody::source);
            CHECK(source.epoch() == 6);
            // The next attempt's epoch fits no message of this one.
            CHECK(source(event::GuestStopped{local()}) == "write OFFERED(7)");
        };
        fails(offered(local()), cancelled);
        fails(offered(local()), cut);
        fails(offered(local()), event::Failed{"the peer's words"});
        fails(offered(local()), said(M::refused, 5));
        Source committing = offered(local());
        committing(said(M::accept, 5));
        fails(std::move(committing), unwritten); // on the disk or not: RECLAIMED overrules it
    }

    TEST_CASE("a hand-over that fails before the offer says nothing to the destination") {
        Source source = holding();
        source(event::GuestStopped{local()});
        CHECK(source(unwritten) == "write RECLAIMED(6)");
        CHECK(source(written) == "resume");
        CHECK(source(started).empty());
    }

    TEST_CASE("no answer in time is a failure before the commit point and doubt after it") {
        Source offer = offered(local());
        CHECK(offer.expire(Timer::wait) == "write RECLAIMED(6)");
        Source source = committed(local());
        CHECK(source.expire(Timer::wait).empty());
        CHECK(source.state() == "in-doubt");
        CHECK(source(cancelled).empty());
        CHECK(source.machine().commit_point() == CommitPoint::behind);
        CHECK(source.sentence().find("no answer came in time") != std::string::npos);
    }

    TEST_CASE("a source in doubt repeats its commit until it hears what became of it") {
        Source source = in_doubt(local());
        CHECK(source.expire(Timer::retry) == "send commit(5)");
        source(cut);
        CHECK(source.expire(Timer::retry) == "connect");
        CHECK(source.expire(Timer::retry).empty()); // one attempt at a time
        CHECK(source(event::Disconnected{"refused"}).empty());
        CHECK(source.expire(Timer::retry) == "connect");
        CHECK(source(event::Connected{}) == "send commit(5)");
        CHECK(source(said(M::accept, 5)) == "send commit(5)");
        CHECK(source(said(M::lost, 5)) == "write HANDED_OFF(5)");
    }

    TEST_CASE("what is tried again is tried after longer and longer times") {
        Source source = in_doubt(local());
        source(cut);
        std::vector<OwnershipDuration> times;
        for (int i = 0; i < 7; ++i) {
            times.push_back(source.armed(Timer::retry).after);
            source.expire(Timer::retry);
        }
        CHECK(times == std::vector<OwnershipDuration>{200ms, 400ms, 800ms, 1600ms, 3s, 3s, 3s});
    }

    TEST_CASE("a refusal gives the VM back after the commit too: it is the owner's word") {
        Source source = in_doubt(local());
        CHECK(source(said(M::refused, 5)) == "write RECLAIMED(6)");
        CHECK(source(written) == "resume");
    }

    TEST_CASE("with a shared arbiter the guest goes on when the arbiter says so, not before") {
        Source source = offered(shared());
        CHECK(source(cancelled) == "ask for RECLAIMED(6)");
        CHECK(source.state() == "reclaiming");
        CHECK(source.machine().commit_point() == CommitPoint::arbiter_decides);
        CHECK(source(says(R::offered, 5)).empty()); // the request was lost
        CHECK(source.expire(Timer::retry) == "ask for RECLAIMED(6)");
        CHECK(source(unreachable).empty());
        CHECK(source.state() == "in-doubt");
        CHECK(source.sentence().find("no route") != std::string::npos);
        CHECK(source.expire(Timer::retry) == "send ask(5), ask for RECLAIMED(6)");
        CHECK(source(says(R::reclaimed, 6)) == "write RECLAIMED(6)");
        CHECK(source(written) == "resume");
    }

    TEST_CASE("a cancel that comes after the destination's commit at the arbiter is too late") {
        Source source = offered(shared());
        source(cancelled);
        CHECK(source(says(R::committed, 5)) == "write COMMITTED(5)");
        CHECK(source(written) == "send ask(5)");
        CHECK(source.state() == "committed");
        CHECK(source.machine().commit_point() == CommitPoint::behind);
        source.expire(Timer::wait);
        CHECK(source(said(M::refused, 5)) == "read the arbiter"); // what it says counts
        CHECK(source(says(R::committed, 5)).empty());
        CHECK(source.expire(Timer::retry) == "send ask(5), read the arbiter");
        CHECK(source(says(R::reclaimed, 6)) == "write RECLAIMED(6)");
    }

    TEST_CASE("what nobody was offered is taken back without an arbiter that is away") {
        Source source = holding();
        source.play({event::GuestStopped{shared()}, event::AllSent{}, written});
        SUBCASE("at once") {}
        SUBCASE("it was to be taken back already") {
            CHECK(source(cancelled).empty()); // the arbiter is being asked
            CHECK(source.machine().commit_point() == CommitPoint::ahead);
            CHECK(source.custody() == Custody::source);
        }
        CHECK(source(unreachable) == "write RECLAIMED(6)");
        CHECK(source(written) == "resume");
        CHECK(source(started).empty()); // there is nobody to be told
        CHECK(source.state() == "reclaimed");
        CHECK(source.custody() == Custody::source);
        // Its request may be carried out yet; the next offer follows it.
        CHECK(source(event::GuestStopped{shared()}) == "write OFFERED(7)");
    }

    TEST_CASE("where the arbiter answers it is told what is taken back before the offer") {
        Source source = holding();
        source.play({event::GuestStopped{shared()}, event::AllSent{}, written, cancelled});
        CHECK(source(says(R::offered, 5)) == "ask for RECLAIMED(6)");
        CHECK(source(says(R::reclaimed, 6)) == "write RECLAIMED(6)");
    }

    TEST_CASE("an offer that could not be noted is not noted later, while it is taken back") {
        Source source = holding();
        source.play({event::GuestStopped{shared()}, event::AllSent{}});
        CHECK(source(unwritten) == "ask for RECLAIMED(6)");
        CHECK(source(says(R::offered, 5)).empty()); // the request was lost
        CHECK(source.expire(Timer::retry) == "ask for RECLAIMED(6)");
        CHECK(source(says(R::reclaimed, 6)) == "write RECLAIMED(6)");
    }

    TEST_CASE("an attempt that comes to no offer does not settle what an earlier one owes") {
        Source source = offered(local());
        source.play({cut, written, started}); // offered as 5, held as 6
        source.play({event::GuestStopped{local()}, written, cancelled, written, started});
        CHECK(source.machine().owes_word());
        CHECK(source(event::Connected{}) == "send took_back(5)");
        CHECK(source(said(M::refused, 7)).empty());
        CHECK(source.machine().owes_word());
        source(said(M::refused, 5));
        CHECK_FALSE(source.machine().owes_word());
    }

    TEST_CASE("a record that cannot be written is no reason to wait for an arbiter") {
        Source source = holding();
        source.play({event::GuestStopped{shared()}, event::AllSent{}, written, unreachable});
        CHECK(source(unwritten).empty());
        CHECK(source.expire(Timer::retry) == "write RECLAIMED(6)");
        CHECK(source(written) == "resume");
    }

    TEST_CASE("an arbiter with a later record than this side's lets nothing run here") {
        Source source = offered(shared());
        source(cancelled);
        CHECK(source(says(R::offered, 8)).empty());
        CHECK(source.state() == "in-doubt");
        CHECK(source.resolve(Keep::source) == "refused");
        CHECK(source.resolve(Keep::destination) == "write HANDED_OFF(5)");
    }

    TEST_CASE("a record that must be written is tried again, and the state says why") {
        Source source = offered(local());
        source(cancelled);
        CHECK(source(unwritten).empty());
        CHECK(source.state() == "reclaiming");
        CHECK(
            source.sentence().find("RECLAIMED(6) cannot be written: no space") !=
            std::string::npos);
        CHECK(source(said(M::accept, 5)).empty());
        CHECK(source.expire(Timer::retry) == "write RECLAIMED(6)");
        CHECK(source(written) == "resume");
        CHECK(source.sentence().find("no space") == std::string::npos);
    }

    TEST_CASE("what comes while a record is being written is heard after it") {
        Source source = offered(local());
        CHECK(source(said(M::accept, 5)) == "write COMMITTED(5)");
        CHECK(source(said(M::running, 5)).empty());
        CHECK(source(cancelled).empty());
        CHECK(source.resolve(Keep::source) == "refused");
        CHECK(source(written) == "send commit(5), write HANDED_OFF(5)");
    }

    TEST_CASE("a guest that does not start again is lost, with its memory, and can be tried") {
        Source source = offered(local());
        source.play({cancelled, written});
        CHECK(source(event::GuestNotStarted{"EIO"}) == "send took_back(5)");
        CHECK(source.state() == "lost");
        Source restarted_one = restarted(R::reclaimed, local(), 6);
        restarted_one.boot_again();
        restarted_one(event::GuestNotStarted{"EIO"});
        CHECK(restarted_one.boot_again() == "boot"); // there is no memory to start from
        CHECK(source.boot_again() == "resume");
        source(started);
        CHECK(source.state() == "reclaimed");
    }

    TEST_CASE("a destination that still waits hears that the VM was taken back") {
        Source source = offered(local());
        source.play({cut, written, started});
        CHECK(source.expire(Timer::retry) == "connect");
        CHECK(source(event::Connected{}) == "send took_back(5)");
        CHECK(source(said(M::accept, 5)) == "send took_back(5)");
        source(said(M::refused, 5));
        source(cut);
        CHECK(source.expire(Timer::retry).empty()); // it knows
    }

    TEST_CASE("a restarted source does by its record what the table of the design says") {
        SUBCASE("none") {
            Source source{SourceOwner::restarted(std::nullopt, patience)};
            CHECK(source.first_words.empty());
            CHECK(source.state() == "lost");
            CHECK(source.boot_again() == "boot");
        }
        SUBCASE("RECLAIMED") {
            for (const Attempt& attempt : {local(), shared()}) {
                Source source = restarted(R::reclaimed, attempt, 6);
                CHECK(source.state() == "lost");
                CHECK(source(event::Connected{}) == "send took_back(5)");
                CHECK(source(said(M::accept, 5)) == "send took_back(5)");
                CHECK(source.boot_again() == "boot");
                source(started);
                CHECK(source.epoch() == 6);
            }
        }
        SUBCASE("OFFERED, local: commits on accept, for the copy there is the guest") {
            Source source = restarted(R::offered, local());
            CHECK(source.first_words == "connect");
            CHECK(source.state() == "in-doubt");
            CHECK(source(event::Connected{}) == "send ask(5)");
            CHECK(source(said(M::accept, 5)) == "write COMMITTED(5)");
            CHECK(source(written) == "send commit(5)");
        }
        SUBCASE("OFFERED, local: refused, no answer, or a person") {
            Source refused = restarted(R::offered, local());
            CHECK(refused(said(M::refused, 5)) == "write RECLAIMED(6)");
            refused(written);
            CHECK(refused.state() == "lost");
            Source silence = restarted(R::offered, local());
            CHECK(silence.expire(Timer::wait) == "write RECLAIMED(6)");
            Source resolved = restarted(R::offered, local());
            CHECK(resolved.resolve(Keep::source) == "write RECLAIMED(6)");
            CHECK(resolved(written) == "send took_back(5)");
            CHECK(resolved.boot_again() == "boot");
        }
        SUBCASE("OFFERED for post-copy: the copy there is not whole") {
            CHECK(restarted(R::offered, local(true)).first_words == "connect, write RECLAIMED(6)");
            CHECK(
                restarted(R::offered, shared(true)).first_words == "connect, ask for RECLAIMED(6)");
        }
        SUBCASE("OFFERED, shared") {
            Source source = restarted(R::offered, shared());
            CHECK(source.first_words == "connect, read the arbiter");
            CHECK(source(says(R::offered, 5)).empty());
            CHECK(source.expire(Timer::retry) == "read the arbiter");
            source(says(R::offered, 5));
            CHECK(source.expire(Timer::wait) == "ask for RECLAIMED(6)");
            Source lost = restarted(R::offered, shared());
            CHECK(lost(says(R::reclaimed, 6)) == "write RECLAIMED(6)");
            Source given_up = restarted(R::offered, shared());
            CHECK(given_up(says(R::committed, 5)) == "write COMMITTED(5)");
        }
        SUBCASE("COMMITTED, local") {
            Source source = restarted(R::committed, local());
            CHECK(source(event::Connected{}) == "send commit(5)");
            CHECK(source(said(M::accept, 5)) == "send commit(5)");
            CHECK(source(said(M::refused, 5)) == "write RECLAIMED(6)");
        }
        SUBCASE("COMMITTED, shared") {
            Source source = restarted(R::committed, shared());
            CHECK(source.first_words == "connect, read the arbiter");
            CHECK(source(says(R::committed, 5)).empty());
            CHECK(source(event::Connected{}) == "send ask(5)");
            CHECK(source(said(M::running, 5)) == "write HANDED_OFF(5)");
            Source back = restarted(R::committed, shared());
            CHECK(back(says(R::reclaimed, 6)) == "write RECLAIMED(6)");
            back(written);
            CHECK(back.state() == "lost");
        }
        SUBCASE("COMMITTED, post-copy: its half is gone, and the destination hears so") {
            Source source = restarted(R::committed, local(true));
            CHECK(source(said(M::running, 5)) == "send pages_lost(5), send ask(5)");
            CHECK(source.state() == "split");
            CHECK(source(event::Connected{}) == "send pages_lost(5), send ask(5)");
            CHECK(source(said(M::complete, 5)) == "write HANDED_OFF(5)");
            Source neither = restarted(R::committed, local(true));
            CHECK(neither(said(M::lost, 5)) == "write HANDED_OFF(5)"); // the other half is gone too
        }
        SUBCASE("HANDED_OFF and SALVAGED") {
            CHECK(restarted(R::handed_off, local()).state() == "handed-off");
            CHECK(restarted(R::salvaged, local(true), 6).state() == "salvaged");
        }
    }
}
