// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/destination_owner.hpp"

#include "tests/unit/migrate/ownership/played.hpp"

#include <doctest/doctest.h>

using namespace wherry::migrate;
using namespace wherry::tests;
using M = MessageKind;
using R = RecordKind;
using action::Timer;

namespace {

using Destination = Played<DestinationOwner>;

Destination empty() {
    Destination destination{DestinationOwner::restarted(std::nullopt, patience)};
    destination(event::Connected{});
    return destination;
}
Destination restarted(R kind, const Attempt& attempt, std::uint64_t epoch = 5) {
    return Destination{DestinationOwner::restarted(record(kind, epoch, attempt), patience)};
}
Destination accepted(const Attempt& attempt) {
    Destination destination = empty();
    destination.play({event::Offered{Epoch{5}, attempt}, event::Loaded{Epoch{5}}, written});
    REQUIRE(destination.state() == "accepted");
    return destination;
}
Destination in_doubt(const Attempt& attempt) {
    Destination destination = accepted(attempt);
    destination(cut);
    REQUIRE(destination.state() == "in-doubt");
    return destination;
}
Destination faulting() {
    Destination destination = accepted(local(true));
    destination.play({said(M::commit, 5), written, started});
    REQUIRE(destination.state() == "faulting");
    return destination;
}

} // namespace

TEST_SUITE("migrate.ownership.destination_owner") {
    TEST_CASE("with arbiter local it runs with the commit in hand and RUNNING on its disk") {
        Destination destination = empty();
        CHECK(destination(event::Offered{Epoch{5}, local()}) == "write ACCEPTED(5)");
        CHECK(destination(written).empty()); // still loading
        CHECK(destination.machine().commit_point() == CommitPoint::ahead);
        CHECK(destination(event::Loaded{Epoch{5}}) == "send accept(5)");
        CHECK(destination.machine().commit_point() == CommitPoint::behind);
        CHECK(destination.custody() == Custody::undetermined);
        CHECK(destination(said(M::commit, 5)) == "write RUNNING(5)");
        CHECK(destination(written) == "resume");
        CHECK(destination(started) == "send running(5)");
        CHECK(destination.state() == "done");
        CHECK(destination.custody() == Custody::destination);
        CHECK(destination(said(M::commit, 5)) == "send running(5)"); // said twice
    }

    TEST_CASE("what is loaded before the offer is read is loaded") {
        Destination destination = empty();
        CHECK(destination(event::Loaded{Epoch{5}}).empty());
        destination(event::Offered{Epoch{5}, local()});
        CHECK(destination(written) == "send accept(5)");
    }

    TEST_CASE("what was loaded for an attempt that failed is not what a later one offers") {
        Destination destination = empty();
        destination(event::Offered{Epoch{5}, local()});
        CHECK(destination(event::Loaded{Epoch{5}}).empty()); // held back
        CHECK(destination(unwritten) == "drop, write ABANDONED(5)");
        destination(written);
        destination(event::Offered{Epoch{7}, local()});
        CHECK(destination(written).empty());
        CHECK(destination.state() == "accepting");
        CHECK(destination(event::Loaded{Epoch{7}}) == "send accept(7)");
    }

    TEST_CASE("with a shared arbiter its own swap is the commit point, read and not believed") {
        Destination destination = empty();
        destination.play({event::Offered{Epoch{5}, shared()}, event::Loaded{Epoch{5}}});
        CHECK(destination(written) == "send accept(5), ask for COMMITTED(5)");
        CHECK(destination(said(M::commit, 5)).empty()); // nobody's to send
        CHECK(destination(says(R::offered, 5)).empty());
        CHECK(destination.expire(Timer::retry) == "send accept(5), ask for COMMITTED(5)");
        CHECK(destination(unreachable).empty());
        CHECK(destination.state() == "in-doubt");
        CHECK(destination.sentence().find("no route") != std::string::npos);
        CHECK(destination.expire(Timer::retry) == "send accept(5), ask for COMMITTED(5)");
        CHECK(destination(says(R::committed, 5)) == "write RUNNING(5)");
        CHECK(destination(written) == "resume");
    }

    TEST_CASE("with a shared arbiter it abandons when the VM was taken back there") {
        Destination destination = accepted(shared());
        CHECK(destination(says(R::reclaimed, 6)) == "drop, write ABANDONED(5)");
        CHECK(destination(written) == "send refused(5), read the arbiter");
        CHECK(destination(says(R::reclaimed, 6)).empty());
        CHECK(destination.expire(Timer::retry) == "no timer");
        CHECK(destination(said(M::ask, 5)) == "send refused(5), read the arbiter");
    }

    TEST_CASE("what was won at the arbiter and cannot be used is given back") {
        Destination destination = accepted(shared());
        CHECK(destination.resolve(Keep::source) == "drop, write ABANDONED(5)");
        CHECK(destination(says(R::committed, 5)).empty()); // too late to start
        CHECK(destination(written) == "send refused(5), ask for RECLAIMED(6)");
        CHECK(destination(unreachable).empty());
        CHECK(destination.expire(Timer::retry) == "ask for RECLAIMED(6)");
        CHECK(destination(says(R::reclaimed, 6)).empty());
        CHECK(destination.expire(Timer::retry) == "no timer");
    }

    TEST_CASE("until it has accepted every failure drops the copy, on the disk before it is said") {
        const auto fails = [](const OwnershipEvent& event) {
            Destination destination = empty();
            destination.play({event::Offered{Epoch{5}, local()}, written});
            CHECK(destination(event) == "drop, write ABANDONED(5)");
            CHECK(destination(written) == "send refused(5)");
            CHECK(destination.state() == "abandoned");
            CHECK(destination.custody() == Custody::source);
        };
        fails(cancelled);
        fails(cut);
        fails(event::Failed{"a page was wrong"});
        fails(said(M::took_back, 5));
        Destination slow = empty();
        slow.play({event::Offered{Epoch{5}, local()}, written});
        CHECK(slow.expire(Timer::wait) == "drop, write ABANDONED(5)");
        Destination full = empty();
        full(event::Offered{Epoch{5}, local()});
        CHECK(full(unwritten) == "drop, write ABANDONED(5)");
        CHECK(full(unwritten).empty());
        CHECK(full.state() == "abandoning");
        CHECK(full.sentence().find("ABANDONED(5) cannot be written") != std::string::npos);
        CHECK(full.expire(Timer::retry) == "write ABANDONED(5)");
    }

    TEST_CASE("once it has accepted only the source's word ends its doubt") {
        Destination destination = accepted(local());
        CHECK(destination(cancelled).empty());
        CHECK(destination.state() == "accepted");
        CHECK(destination.expire(Timer::wait).empty());
        CHECK(destination.state() == "in-doubt");
        CHECK(destination.expire(Timer::retry) == "send accept(5)");
        destination(cut);
        CHECK(destination.expire(Timer::retry).empty());
        CHECK(destination(event::Connected{}) == "send accept(5)");
        CHECK(destination(said(M::ask, 5)) == "send accept(5)");
        CHECK(destination(said(M::took_back, 5)) == "drop, write ABANDONED(5)");
        Destination other = in_doubt(local());
        CHECK(other(said(M::commit, 5)) == "write RUNNING(5)");
    }

    TEST_CASE("a newer offer proves that the older one was taken back; an older one is dropped") {
        Destination destination = in_doubt(local());
        CHECK(destination(event::Offered{Epoch{5}, local()}).empty());
        CHECK(destination(event::Offered{Epoch{3}, local()}).empty());
        CHECK(destination(event::Offered{Epoch{7}, local()}) == "drop, write ABANDONED(5)");
        destination(written);
        CHECK(destination(event::Offered{Epoch{5}, local()}).empty());
        CHECK(destination(event::Offered{Epoch{9}, local()}) == "write ACCEPTED(9)");
    }

    TEST_CASE("who asks about a copy that was never here is refused, durably and for ever") {
        Destination destination = empty();
        CHECK(destination(said(M::commit, 5)) == "drop, write ABANDONED(5)");
        CHECK(destination(said(M::ask, 5)).empty()); // while it is being written
        CHECK(destination(written) == "send refused(5), send refused(5)");
        CHECK(destination(event::Offered{Epoch{5}, local()}).empty()); // it came late
        CHECK(destination(said(M::ask, 3)).empty());
        CHECK(destination(said(M::ask, 7)) == "drop, write ABANDONED(7)");
    }

    TEST_CASE("RUNNING that cannot be written is tried again; the guest does not start without") {
        Destination destination = accepted(local());
        destination(said(M::commit, 5));
        CHECK(destination(unwritten).empty());
        CHECK(destination.state() == "starting");
        CHECK(destination.resolve(Keep::source) == "refused"); // it may be there
        CHECK(destination.expire(Timer::retry) == "write RUNNING(5)");
        CHECK(destination(written) == "resume");
    }

    TEST_CASE("a guest that does not start is this side's all the same, and can be tried again") {
        Destination destination = accepted(local());
        destination.play({said(M::commit, 5), written});
        CHECK(destination(event::GuestNotStarted{"EIO"}) == "send running(5)"); // it has it
        CHECK(destination(said(M::ask, 5)) == "send running(5)");
        CHECK(destination.state() == "lost");
        CHECK(destination.custody() == Custody::destination);
        CHECK(destination.boot_again() == "resume");
        CHECK(destination(started) == "send running(5)");
    }

    TEST_CASE("post-copy says complete when its disk says that no page is missing") {
        Destination destination = faulting();
        CHECK(destination(said(M::ask, 5)) == "send running(5)");
        CHECK(destination(event::LastPagePlaced{}) == "write DONE(5)");
        CHECK(destination(unwritten).empty());
        CHECK(destination(said(M::pages_lost, 5)).empty()); // none is missing
        CHECK(destination.expire(Timer::retry) == "write DONE(5)");
        CHECK(destination(written) == "send complete(5)");
        CHECK(destination(said(M::ask, 5)) == "send complete(5)");
        CHECK(destination.state() == "done");
    }

    TEST_CASE("post-copy is complete also when the last page came before the guest ran") {
        Destination destination = accepted(local(true));
        CHECK(destination(event::LastPagePlaced{}).empty());
        destination.play({said(M::commit, 5), written});
        CHECK(destination(started) == "send running(5), write DONE(5)");
        CHECK(destination(written) == "send complete(5)");
        CHECK(destination.state() == "done");
    }

    TEST_CASE("post-copy stands still for good when what is missing is lost") {
        Destination destination = faulting();
        CHECK(destination(said(M::pages_lost, 5)) == "stop");
        CHECK(destination.state() == "split");
        CHECK(destination(event::LastPagePlaced{}).empty());
        CHECK(destination.end_here() == "stop");
        CHECK(destination.salvage() == "stop, write SALVAGED(6)");
        destination(written);
        CHECK(destination.state() == "salvaged");
    }

    TEST_CASE("a guest whose source is gone may be ended while pages are missing") {
        Destination destination = faulting();
        CHECK(destination.end_here() == "refused");
        destination(event::Disconnected{"cut"});
        CHECK(destination.end_here() == "stop");
        CHECK(destination.state() == "faulting");
        destination(event::Connected{});
        CHECK(destination.end_here() == "refused");
    }

    TEST_CASE("a restarted destination does by its record what the table of the design says") {
        SUBCASE("none, and a VM that was handed off") {
            CHECK(empty().state() == "idle");
            Destination destination = restarted(R::handed_off, local());
            CHECK(destination.state() == "idle");
            CHECK(destination(event::Offered{Epoch{5}, local()}).empty());
            CHECK(destination(event::Offered{Epoch{6}, local()}) == "write ACCEPTED(6)");
        }
        SUBCASE("ACCEPTED: its copy is gone") {
            CHECK(restarted(R::accepted, local()).first_words == "drop, write ABANDONED(5)");
            Destination destination = restarted(R::accepted, shared());
            CHECK(destination(written) == "send refused(5), read the arbiter");
            CHECK(destination(says(R::offered, 5)) == "ask for RECLAIMED(6)");
            CHECK(destination(says(R::offered, 5)).empty());
            CHECK(destination.expire(Timer::retry) == "ask for RECLAIMED(6)");
        }
        SUBCASE("ABANDONED") {
            Destination destination = restarted(R::abandoned, local());
            CHECK(destination.first_words.empty());
            CHECK(destination(said(M::commit, 5)) == "send refused(5)");
            CHECK(restarted(R::abandoned, shared()).first_words == "read the arbiter");
        }
        SUBCASE("RUNNING and DONE, local: it is this side's") {
            for (const R kind : {R::running, R::done}) {
                Destination destination = restarted(kind, local());
                CHECK(destination.state() == "lost");
                CHECK(destination(event::Connected{}) == "send lost(5)");
                CHECK(destination(said(M::ask, 5)) == "send lost(5)");
                CHECK(destination.boot_again() == "boot");
                CHECK(destination(started) == "send running(5)");
                CHECK(destination.state() == "done");
            }
        }
        SUBCASE("RUNNING, shared: once the arbiter has confirmed it") {
            Destination destination = restarted(R::running, shared());
            CHECK(destination.first_words == "read the arbiter");
            CHECK(destination.boot_again() == "refused");
            CHECK(destination(said(M::ask, 5)).empty());
            CHECK(destination(unreachable).empty());
            CHECK(destination.state() == "in-doubt");
            CHECK(destination.expire(Timer::retry) == "read the arbiter");
            CHECK(destination(says(R::committed, 5)) == "send lost(5)");
            CHECK(destination.boot_again() == "boot");
            Destination fenced = restarted(R::running, shared());
            CHECK(fenced(says(R::reclaimed, 6)) == "drop, write ABANDONED(5)");
            fenced(written);
            CHECK(fenced.boot_again() == "refused");
        }
        SUBCASE("post-copy: half of it is on the source, unless DONE says that all was here") {
            Destination half = restarted(R::running, local(true));
            CHECK(half(said(M::ask, 5)) == "send lost(5)");
            CHECK(half.boot_again() == "refused");
            CHECK(half.salvage() == "stop, write SALVAGED(6)");
            Destination whole = restarted(R::done, local(true));
            CHECK(whole(said(M::ask, 5)) == "send complete(5)");
            CHECK(whole.salvage() == "refused");
            CHECK(whole.boot_again() == "boot");
            CHECK(whole(started) == "send complete(5)");
        }
        SUBCASE("RUNNING and DONE of a VM that was booted again: said, and nothing is asked or "
                "written") {
            for (const Attempt& attempt : {local(), shared(), local(true), shared(true)}) {
                for (const R kind : {R::running, R::done}) {
                    Destination destination{
                        DestinationOwner::booted_again(record(kind, 5, attempt), patience)};
                    const bool was_whole = kind == R::done && attempt.pages_missing;
                    const std::string word = was_whole ? "send complete(5)" : "send lost(5)";
                    CHECK(destination.first_words.empty());
                    CHECK(destination(event::Connected{}) == word);
                    CHECK(destination(said(M::ask, 5)) == word);
                    CHECK(destination(said(M::commit, 5)) == word);
                    CHECK(destination(said(M::took_back, 5)).empty());
                    CHECK(destination(said(M::pages_lost, 5)).empty());
                    CHECK(destination(cut).empty());
                }
            }
        }
        SUBCASE("SALVAGED") {
            CHECK(restarted(R::salvaged, local(true), 6).state() == "salvaged");
        }
    }

    TEST_CASE("without the arbiter a person decides as with local") {
        constexpr auto gone = Assurance::arbiter_is_gone;
        Destination waits = in_doubt(shared());
        CHECK(waits.resolve(Keep::destination, gone) == "refused"); // it has not failed to answer
        waits(unreachable);
        CHECK(waits.sentence().find("wherry resolve --no-arbiter") != std::string::npos);
        CHECK(waits.resolve(Keep::destination, gone) == "write RUNNING(5)");
        CHECK(waits(written) == "resume");
        CHECK(waits.machine().record()->arbiter == "local");

        Destination half = in_doubt(shared(true));
        half(unreachable);
        CHECK(half.resolve(Keep::destination, gone) == "refused"); // pages of it are missing

        SUBCASE("of one that ran, whether it is this side's still") {
            for (const R kind : {R::running, R::done}) {
                Destination ran = restarted(kind, shared());
                CHECK(ran.resolve(Keep::destination, gone) == "refused");
                ran(unreachable);
                CHECK(ran.resolve(Keep::destination) == "refused");
                CHECK(
                    ran.resolve(Keep::destination, gone) ==
                    (kind == R::done ? "write DONE(5)" : "write RUNNING(5)"));
                CHECK(ran(written) == "send lost(5)");
                CHECK(ran.state() == "lost");
                CHECK(ran.machine().record()->arbiter == "local");
                CHECK(ran(says(R::reclaimed, 6)).empty()); // too late
                CHECK(ran.boot_again() == "boot");

                Destination taken = restarted(kind, shared());
                taken(unreachable);
                CHECK(taken.resolve(Keep::source, gone) == "drop, write ABANDONED(5)");
            }
        }
    }

    TEST_CASE("resolve keeps the source before RUNNING, and the destination where it may") {
        CHECK(in_doubt(local()).resolve(Keep::source) == "drop, write ABANDONED(5)");
        CHECK(in_doubt(local()).resolve(Keep::destination) == "write RUNNING(5)");
        CHECK(in_doubt(local(true)).resolve(Keep::destination) == "refused");
        CHECK(in_doubt(shared()).resolve(Keep::destination) == "refused"); // the arbiter decides
        CHECK(faulting().resolve(Keep::source) == "refused");
        CHECK(empty().resolve(Keep::source) == "refused");
    }
}
