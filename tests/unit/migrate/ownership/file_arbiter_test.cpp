// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/file_arbiter.hpp"

#include "tests/support/memory_disk.hpp"
#include "tests/support/temp_directory.hpp"
#include "tests/unit/migrate/ownership/arbiter_races.hpp"
#include "tests/unit/migrate/ownership/journal_support.hpp"

#include <fstream>
#include <random>

#include <doctest/doctest.h>

using namespace wherry;
using namespace std::chrono_literals;
using formats::ErrorCode;
using migrate::ArbiterRecord;
using migrate::Asker;
using migrate::Epoch;
using migrate::FileArbiter;
using migrate::RecordKind;
using tests::DiskFault;
using tests::some_vm;

namespace {

constexpr ArbiterRecord offered{RecordKind::offered, Epoch{1}};
constexpr ArbiterRecord committed{RecordKind::committed, Epoch{1}};
constexpr ArbiterRecord reclaimed{RecordKind::reclaimed, Epoch{2}};

/// On a directory of this machine.
struct OnDisk {
    OnDisk() { REQUIRE(FileArbiter::prepare(path).has_value()); }
    tests::TempDirectory temporary;
    std::filesystem::path path = temporary.path() / "arbiter";
    std::filesystem::path of_vm = path / some_vm().to_string();
    [[nodiscard]] tests::MakeArbiter make() const {
        return [path = path] {
            return std::make_unique<FileArbiter>(path);
        };
    }
};

bool is_done(FileArbiter& arbiter, const ArbiterRecord& wanted, Asker asker) {
    const auto outcome = arbiter.request(some_vm(), wanted, asker, 1s);
    REQUIRE_MESSAGE(outcome.has_value(), outcome.error().text());
    return outcome->is_done;
}

std::string contents(const std::filesystem::path& path) {
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
}

} // namespace

TEST_CASE("file arbiter: an epoch is decided once, and a person can read it") {
    const OnDisk disk;
    FileArbiter source{disk.path};
    FileArbiter destination{disk.path};
    CHECK(*source.read(some_vm(), 1s) == std::nullopt);
    CHECK(is_done(source, offered, Asker::source));
    CHECK(is_done(destination, committed, Asker::destination));
    CHECK(is_done(destination, committed, Asker::destination)); // again is done
    const auto late = source.request(some_vm(), reclaimed, Asker::source, 1s);
    REQUIRE(late.has_value());
    CHECK_FALSE(late->is_done);
    CHECK(late->now == committed);
    CHECK(*FileArbiter{disk.path}.read(some_vm(), 1s) == committed);
    CHECK(contents(disk.of_vm / "000001") == "wherry-arbiter 1\nOFFERED 1\nby source\n");
    CHECK(contents(disk.of_vm / "000002") == "wherry-arbiter 1\nCOMMITTED 1\nby destination\n");
    CHECK(is_done(destination, reclaimed, Asker::destination));
    CHECK(*source.read(some_vm(), 1s) == reclaimed);
    using Iterator = std::filesystem::directory_iterator;
    CHECK(std::distance(Iterator{disk.of_vm}, Iterator{}) == 3); // nothing is left behind
}

TEST_CASE("file arbiter: many threads, one winner") {
    const OnDisk disk;
    tests::race_for_epochs(disk.make(), 100);
}

TEST_CASE("file arbiter: many processes, one winner") {
    const OnDisk disk;
    tests::race_by_processes(disk.make(), 20);
}

TEST_CASE("file arbiter: any requests, by the rule") {
    const OnDisk disk;
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        tests::follow_the_rule(disk.make(), seed, 60);
    }
}

TEST_CASE("file arbiter: a directory that is not there, or not the one, is no empty record") {
    const tests::TempDirectory temporary;
    FileArbiter missing{temporary.path() / "none"};
    REQUIRE(!missing.read(some_vm(), 1s).has_value());
    CHECK(missing.read(some_vm(), 1s).error().code() == ErrorCode::not_found);
    FileArbiter unmounted{temporary.path()};
    const auto read = unmounted.read(some_vm(), 1s);
    REQUIRE(!read.has_value());
    CHECK(read.error().code() == ErrorCode::not_found);
    CHECK(
        read.error().text().find("wherry arbiter init " + temporary.path().string()) !=
        std::string::npos);
    CHECK(!unmounted.request(some_vm(), offered, Asker::source, 1s).has_value());
}

TEST_CASE("file arbiter: garbage is named and decides nothing; strangers are left alone") {
    const OnDisk disk;
    FileArbiter arbiter{disk.path};
    REQUIRE(is_done(arbiter, offered, Asker::source));
    std::ofstream{disk.of_vm / "notes.txt"} << "hello";
    std::ofstream{disk.of_vm / ".new-left-behind"} << "wherry";
    std::ofstream{disk.of_vm / "7"} << "hello";
    CHECK(*arbiter.read(some_vm(), 1s) == offered);
    for (const auto* text :
         {"",
          "hello",
          "wherry-arbiter 1\nOFFERED 1\nby source",
          "wherry-arbiter 1\nOFFERED 01\nby source\n",
          "wherry-arbiter 1\nOFFERED 0\nby source\n",
          "wherry-arbiter 1\nRUNNING 1\nby source\n",
          "wherry-arbiter 1\nOFFERED 99999999999999999999\nby source\n",
          "wherry-arbiter 2\nOFFERED 1\nby source\n"}) {
        std::ofstream{disk.of_vm / "000002"} << text;
        const auto read = arbiter.read(some_vm(), 1s);
        REQUIRE(!read.has_value());
        CHECK(read.error().code() == ErrorCode::corrupted);
        CHECK(read.error().text().find((disk.of_vm / "000002").string()) != std::string::npos);
        CHECK(!arbiter.request(some_vm(), committed, Asker::destination, 1s).has_value());
    }
    std::filesystem::remove(disk.of_vm / "000002");
    CHECK(is_done(arbiter, committed, Asker::destination));
}

TEST_CASE("file arbiter: a disk that fails at any call, and lost power") {
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random{seed};
        tests::MemoryDisk disk;
        FileArbiter arbiter{"/arbiter", [&] {
                                return disk.directory()->enter("vms", true);
                            }};
        const auto shared = disk.directory()->enter("vms", true);
        REQUIRE((*shared)->create("wherry-arbiter").has_value());
        REQUIRE((*shared)->sync().has_value());
        std::optional<ArbiterRecord> model;
        for (int step = 0; step < 30; ++step) {
            disk.set_script([&](std::uint64_t) {
                return random() % 10 == 0 ? static_cast<DiskFault>(1 + random() % 3)
                                          : DiskFault::none;
            });
            constexpr std::array kinds{
                RecordKind::offered, RecordKind::committed, RecordKind::reclaimed};
            const auto around = model ? static_cast<std::uint64_t>(model->epoch) : 1;
            const ArbiterRecord wanted{kinds[random() % 3], Epoch{around + random() % 3}};
            const auto asker = static_cast<Asker>(random() % 3);
            const auto outcome = arbiter.request(some_vm(), wanted, asker, 1s);
            const bool may = may_follow(model, wanted, asker);
            disk.set_script({});
            if (outcome) {
                CHECK(outcome->is_done == (may || model == wanted));
                model = outcome->is_done ? wanted : model;
            } else if (random() % 2 == 0) {
                disk.lose_power(random() % 100, random() % 2 == 0);
            }
            const auto now = arbiter.read(some_vm(), 1s);
            REQUIRE_MESSAGE(now.has_value(), now.error().text());
            CHECK((*now == model || (!outcome && may && *now == wanted)));
            model = *now;
            // What was read is durable.
            disk.lose_power(0, false);
            CHECK(*arbiter.read(some_vm(), 1s) == model);
        }
    }
}
