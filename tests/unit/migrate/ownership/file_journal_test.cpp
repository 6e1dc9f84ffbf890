// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/file_journal.hpp"

#include "migrate/ownership/journal_bytes.hpp"
#include "tests/support/memory_disk.hpp"
#include "tests/support/temp_directory.hpp"
#include "tests/unit/migrate/ownership/journal_support.hpp"

#include <csignal>
#include <random>
#include <set>

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <sys/wait.h>

using namespace wherry;
using formats::ErrorCode;
using migrate::FileJournal;
using migrate::RecordKind;
using tests::DiskFault;
using tests::entry;
using tests::MemoryDisk;
using tests::TempDirectory;

namespace {

/// 0: none.
std::uint64_t last_epoch(const migrate::Journal& journal) {
    return journal.entries().empty()
               ? 0
               : static_cast<std::uint64_t>(journal.entries().back().record.epoch);
}

std::shared_ptr<migrate::Directory> real(const std::filesystem::path& path) {
    auto directory = migrate::open_directory(path, migrate::DirectoryUse::own);
    REQUIRE_MESSAGE(directory.has_value(), directory.error().text());
    return std::move(*directory);
}

} // namespace

TEST_CASE("file journal: kept over restarts, and private") {
    const TempDirectory temporary;
    const auto path = temporary.path() / "state";
    {
        auto journal = FileJournal::open(real(path), "web");
        REQUIRE_MESSAGE(journal.has_value(), journal.error().text());
        CHECK((*journal)->entries().empty());
        REQUIRE((*journal)->append(entry(RecordKind::offered, 1)).has_value());
        REQUIRE((*journal)->append(entry(RecordKind::committed, 1)).has_value());
    }
    auto journal = FileJournal::open(real(path), "web");
    REQUIRE(journal.has_value());
    REQUIRE((*journal)->entries().size() == 2);
    CHECK((*journal)->entries().back() == entry(RecordKind::committed, 1));
    struct stat status{};
    REQUIRE(::stat((path / "web.journal").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0700);
    CHECK(*migrate::journals_in(*real(path)) == std::vector<std::string>{"web"});
    CHECK(migrate::look_at_journal(*real(path), "web")->size() == 2);
    CHECK(migrate::look_at_journal(*real(path), "other")->empty());
}

TEST_CASE("F07 file journal: what counts is the order of the records, not the clock of the host") {
    const TempDirectory temporary;
    const auto steps = {
        std::chrono::hours{0},
        std::chrono::hours{24 * 365 * 10},
        std::chrono::hours{-24 * 365 * 30},
        std::chrono::hours{-24}};
    const auto begun = entry(RecordKind::offered, 1).written_at;
    std::uint64_t epoch = 1;
    for (const auto step : steps) {
        auto journal = FileJournal::open(real(temporary.path()), "web");
        REQUIRE_MESSAGE(journal.has_value(), journal.error().text());
        auto next = entry(RecordKind::reclaimed, epoch);
        next.written_at = begun + step;
        REQUIRE((*journal)->append(next).has_value());
        journal->reset();
        journal = FileJournal::open(real(temporary.path()), "web");
        REQUIRE(journal.has_value());
        CHECK(last_epoch(**journal) == epoch);
        CHECK((*journal)->entries().back() == next);
        ++epoch;
    }
}

TEST_CASE("file journal: two never share one") {
    const TempDirectory temporary;
    auto first = FileJournal::open(real(temporary.path()), "web");
    REQUIRE(first.has_value());
    const auto second = FileJournal::open(real(temporary.path()), "web");
    REQUIRE(!second.has_value());
    CHECK(second.error().code() == ErrorCode::already_exists);
    CHECK(FileJournal::open(real(temporary.path()), "other").has_value());
    first->reset();
    CHECK(FileJournal::open(real(temporary.path()), "web").has_value());
}

TEST_CASE("file journal: names that are no file of the directory are refused") {
    MemoryDisk disk;
    for (const auto* name : {"", ".", "..", ".hidden", "../web", "a/b"}) {
        const auto journal = FileJournal::open(disk.directory(), name);
        REQUIRE(!journal.has_value());
        CHECK(journal.error().code() == ErrorCode::invalid_argument);
    }
}

TEST_CASE("file journal: damage is named with file, offset and way out, and left as it is") {
    const TempDirectory temporary;
    const auto path = temporary.path() / "web.journal";
    {
        auto journal = FileJournal::open(real(temporary.path()), "web");
        REQUIRE((*journal)->append(entry(RecordKind::offered, 1)).has_value());
    }
    REQUIRE(::truncate(path.c_str(), 20) == 0);
    REQUIRE(::truncate(path.c_str(), 4000) == 0);
    const auto journal = FileJournal::open(real(temporary.path()), "web");
    REQUIRE(!journal.has_value());
    CHECK(journal.error().code() == ErrorCode::corrupted);
    CHECK(journal.error().text().starts_with(path.string() + ": at byte 16: "));
    CHECK(journal.error().text().find("wherry resolve") != std::string::npos);
    CHECK(std::filesystem::file_size(path) == 4000);
}

TEST_CASE("file journal: does not grow without end, and keeps what is newest") {
    MemoryDisk disk;
    auto journal = FileJournal::open(disk.directory(), "web");
    REQUIRE(journal.has_value());
    auto large = entry(RecordKind::offered, 0);
    large.tls_directory = std::string(3000, 'x');
    for (std::uint64_t epoch = 1; epoch <= 200; ++epoch) {
        large.record.epoch = migrate::Epoch{epoch};
        REQUIRE((*journal)->append(large).has_value());
        CHECK(disk.bytes_of("web.journal").size() <= migrate::journal_file_limit);
        REQUIRE(last_epoch(**journal) == epoch);
    }
    journal->reset();
    journal = FileJournal::open(disk.directory(), "web");
    REQUIRE(journal.has_value());
    CHECK(last_epoch(**journal) == 200);
    CHECK((*journal)->entries().size() > 1);
    CHECK((*journal)->entries().size() <= migrate::journal_history);
}

TEST_CASE("file journal: a disk that fails at each call in turn") {
    for (const auto fault : {DiskFault::before, DiskFault::after, DiskFault::halfway}) {
        bool was_reached = true;
        for (std::uint64_t at = 0; was_reached; ++at) {
            MemoryDisk disk;
            was_reached = false;
            disk.set_script([&](std::uint64_t call) {
                was_reached = was_reached || call == at;
                return call == at ? fault : DiskFault::none;
            });
            auto journal = FileJournal::open(disk.directory(), "web");
            if (!journal) {
                journal = FileJournal::open(disk.directory(), "web");
            }
            REQUIRE(journal.has_value());
            for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
                // Where it failed it can be used on, and the next record overrules it.
                static_cast<void>((*journal)->append(entry(RecordKind::offered, epoch)));
            }
            if (!(*journal)->append(entry(RecordKind::reclaimed, 4))) {
                REQUIRE((*journal)->append(entry(RecordKind::reclaimed, 4)).has_value());
            }
            disk.lose_power(0, false);
            disk.set_script({});
            journal = FileJournal::open(disk.directory(), "web");
            REQUIRE(journal.has_value());
            CHECK(last_epoch(**journal) == 4);
        }
    }
}

TEST_CASE("file journal: any schedule of faults, restarts and lost power") {
    for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random{seed};
        MemoryDisk disk;
        disk.set_script([&](std::uint64_t) {
            return random() % 8 == 0 ? static_cast<DiskFault>(1 + random() % 3) : DiskFault::none;
        });
        std::unique_ptr<FileJournal> journal;
        std::uint64_t epoch = 0;
        std::set<std::uint64_t> possible{0}; // what may be found; one where it is certain
        for (int step = 0; step < 60; ++step) {
            if (journal == nullptr) {
                auto opened = FileJournal::open(disk.directory(), "web");
                if (!opened) {
                    REQUIRE_MESSAGE(opened.error().code() == ErrorCode::io, opened.error().text());
                    continue;
                }
                journal = std::move(*opened);
                // What was read once is certain from then on.
                REQUIRE(possible.contains(last_epoch(*journal)));
                possible = {last_epoch(*journal)};
            }
            switch (random() % 6) {
            case 0: // the process dies
                journal.reset();
                break;
            case 1: // the host does
                disk.lose_power(random() % 400, random() % 2 == 0);
                journal.reset();
                break;
            default:
                ++epoch;
                if (journal->append(entry(RecordKind::offered, epoch))) {
                    possible = {epoch};
                } else {
                    possible.insert(epoch);
                }
            }
        }
    }
}

TEST_CASE("file journal: a process that is killed leaves all that it was told is durable") {
    const TempDirectory temporary;
    std::uint64_t confirmed = 0;
    for (int round = 0; round < 5; ++round) {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        const pid_t child = ::fork();
        if (child == 0) {
            auto directory = migrate::open_directory(temporary.path(), migrate::DirectoryUse::own);
            auto journal = FileJournal::open(std::move(*directory), "web");
            for (std::uint64_t epoch = last_epoch(**journal) + 1;; ++epoch) {
                if (!(*journal)->append(entry(RecordKind::offered, epoch)) ||
                    ::write(ends[1], &epoch, sizeof epoch) != sizeof epoch) {
                    ::_exit(1);
                }
            }
        }
        ::close(ends[1]);
        for (int i = 0; i < 20 + round; ++i) {
            REQUIRE(::read(ends[0], &confirmed, sizeof confirmed) == sizeof confirmed);
        }
        ::kill(child, SIGKILL);
        while (::read(ends[0], &confirmed, sizeof confirmed) == sizeof confirmed) {
        }
        ::close(ends[0]);
        REQUIRE(::waitpid(child, nullptr, 0) == child);
        auto journal = FileJournal::open(real(temporary.path()), "web");
        REQUIRE_MESSAGE(journal.has_value(), journal.error().text());
        CHECK(last_epoch(**journal) >= confirmed);
        CHECK(last_epoch(**journal) <= confirmed + 1);
    }
}
