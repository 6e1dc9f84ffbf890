// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/record.hpp"

#include <array>
#include <set>
#include <string_view>

#include <doctest/doctest.h>

using namespace wherry::migrate;

namespace {

constexpr ArbiterRecord offered(std::uint64_t epoch) {
    return {RecordKind::offered, Epoch{epoch}};
}
constexpr ArbiterRecord committed(std::uint64_t epoch) {
    return {RecordKind::committed, Epoch{epoch}};
}
constexpr ArbiterRecord reclaimed(std::uint64_t epoch) {
    return {RecordKind::reclaimed, Epoch{epoch}};
}
constexpr std::array askers{Asker::source, Asker::destination, Asker::fenced_source};

} // namespace

TEST_SUITE("migrate.ownership.record") {
    TEST_CASE("each record has a name of its own") {
        std::set<std::string_view> names;
        for (int kind = 1; kind <= 9; ++kind) {
            names.insert(name_of(static_cast<RecordKind>(kind)));
        }
        CHECK(names.size() == 9);
        CHECK(name_of(RecordKind::handed_off) == "HANDED_OFF");
        CHECK(!names.contains("unknown"));
    }

    TEST_CASE("an arbiter takes an offer of an epoch later than all that it knows of the VM") {
        CHECK(may_follow(std::nullopt, offered(1), Asker::source));
        CHECK(may_follow(std::nullopt, offered(6), Asker::source)); // moved without it before
        CHECK(may_follow(reclaimed(2), offered(3), Asker::source));
        CHECK(may_follow(committed(1), offered(2), Asker::source));
        // Moved since with arbiter local, or with another one.
        CHECK(may_follow(committed(1), offered(4), Asker::source));
        CHECK(may_follow(reclaimed(2), offered(5), Asker::source));
        // Taken back while the arbiter was away: nobody had been offered it.
        CHECK(may_follow(offered(1), offered(3), Asker::source));
        CHECK_FALSE(may_follow(offered(1), offered(1), Asker::source));
        CHECK_FALSE(may_follow(reclaimed(2), offered(1), Asker::source));
        CHECK_FALSE(may_follow(reclaimed(2), offered(2), Asker::source));
        CHECK_FALSE(may_follow(committed(3), offered(3), Asker::source));
        CHECK_FALSE(may_follow(std::nullopt, offered(1), Asker::destination));
    }

    TEST_CASE("what was offered is committed once, whoever asks") {
        for (const Asker asker : askers) {
            CHECK(may_follow(offered(3), committed(3), asker));
            CHECK_FALSE(may_follow(std::nullopt, committed(3), asker));
            CHECK_FALSE(may_follow(offered(1), committed(3), asker));
            CHECK_FALSE(may_follow(committed(3), committed(3), asker));
            CHECK_FALSE(may_follow(reclaimed(4), committed(3), asker));
        }
    }

    TEST_CASE("a VM that is not committed is taken back by either side") {
        for (const Asker asker : askers) {
            CHECK(may_follow(offered(3), reclaimed(4), asker));
            CHECK(may_follow(reclaimed(2), reclaimed(4), asker)); // the offer came never or late
            CHECK(may_follow(std::nullopt, reclaimed(2), asker));
            CHECK(may_follow(offered(1), reclaimed(4), asker)); // as above, and once more
            CHECK(may_follow(committed(1), reclaimed(4), asker));
            CHECK_FALSE(may_follow(offered(3), reclaimed(3), asker));
            CHECK_FALSE(may_follow(reclaimed(4), reclaimed(4), asker));
            CHECK_FALSE(may_follow(reclaimed(6), reclaimed(4), asker));
        }
    }

    TEST_CASE("a committed VM is given back by its owner, or by a person who fenced it") {
        CHECK(may_follow(committed(3), reclaimed(4), Asker::destination));
        CHECK(may_follow(committed(3), reclaimed(4), Asker::fenced_source));
        CHECK_FALSE(may_follow(committed(3), reclaimed(4), Asker::source));
        CHECK_FALSE(may_follow(committed(3), reclaimed(2), Asker::destination));
        // Held there since, and to be moved on: the next attempt's, by the next source.
        CHECK(may_follow(committed(3), reclaimed(5), Asker::source));
    }

    TEST_CASE("only what nothing can change any more says who has the VM") {
        using enum RecordKind;
        for (const auto kind : {reclaimed, abandoned}) {
            CHECK(custody_after(kind) == Custody::source);
        }
        for (const auto kind : {handed_off, running, done}) {
            CHECK(custody_after(kind) == Custody::destination);
        }
        for (const auto kind : {offered, committed, accepted, salvaged}) {
            CHECK(custody_after(kind) == Custody::undetermined);
        }
    }

    TEST_CASE("nothing else becomes the record of an arbiter") {
        for (const Asker asker : askers) {
            CHECK_FALSE(may_follow(std::nullopt, {RecordKind::running, Epoch{1}}, asker));
            CHECK_FALSE(may_follow(offered(1), {RecordKind::handed_off, Epoch{1}}, asker));
            CHECK_FALSE(may_follow(std::nullopt, offered(0), asker));
            CHECK_FALSE(may_follow(std::nullopt, reclaimed(1), asker));
        }
    }
}
