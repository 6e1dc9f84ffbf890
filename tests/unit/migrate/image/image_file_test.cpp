// SPDX-License-Identifier: Apache-2.0
// Where images are written to: under which names, and what is left of a writer that died.
#include "migrate/image/image_file.hpp"

#include "tests/support/memory_disk.hpp"
#include "tests/support/temp_directory.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::ErrorCode;

namespace {

using File = std::vector<std::byte>;

const File old_contents(100, std::byte{1});
const File new_contents(300, std::byte{2});

formats::Status write(tests::MemoryDisk& disk, ExistingFile existing) {
    auto file = NewImageFile::create(disk.directory(), "x.wimg", existing);
    if (!file) {
        return formats::fail(std::move(file).error());
    }
    return formats::then(file->append(new_contents), [&] { return file->publish(); });
}

tests::MemoryDisk disk_with_old_file() {
    tests::MemoryDisk disk;
    auto file = disk.directory()->create("x.wimg");
    REQUIRE(file);
    REQUIRE((*file)->append(old_contents));
    REQUIRE((*file)->sync());
    REQUIRE(disk.directory()->sync());
    return disk;
}

std::string temporary_of(const std::string& number) {
    return "x.wimg." + number + ".new";
}

/// Of a file that is in the page cache.
double resident_share(const std::filesystem::path& path, std::size_t size) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0);
    void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    ::close(file);
    REQUIRE(mapped != MAP_FAILED);
    std::vector<unsigned char> pages(size / 4096);
    REQUIRE(::mincore(mapped, size, pages.data()) == 0);
    ::munmap(mapped, size);
    const auto there = std::ranges::count_if(pages, [](auto page) { return (page & 1U) != 0; });
    return static_cast<double>(there) / static_cast<double>(pages.size());
}

} // namespace

TEST_SUITE("migrate.image_file") {

    TEST_CASE("N05 what dead processes have left is removed, what others write is not") {
        tests::MemoryDisk disk;
        const auto directory = disk.directory();
        const std::vector<std::string> others{
            "x.wimg.new", "x.wimg.1a.new", "y.wimg.12.new", "x.wimg.12.new.old", "x.wimgs.12.new"};
        for (const auto& name : others) {
            REQUIRE(directory->create(name));
        }
        for (const auto* number : {"1", "77"}) {
            REQUIRE(directory->create(temporary_of(number)));
        }
        REQUIRE(directory->create(temporary_of(fmt::format("{}", ::getpid()))));
        const auto lock = directory->lock(temporary_of("77"));
        REQUIRE(lock);
        REQUIRE(write(disk, ExistingFile::refused));
        auto expected = others;
        expected.push_back(temporary_of("77"));
        expected.emplace_back("x.wimg");
        std::ranges::sort(expected);
        CHECK(*directory->names() == expected);
        CHECK(disk.bytes_of("x.wimg") == new_contents);
    }

    TEST_CASE("two of one name in one process exclude each other") {
        tests::MemoryDisk disk;
        const auto first = NewImageFile::create(disk.directory(), "x.wimg");
        REQUIRE(first);
        const auto second = NewImageFile::create(disk.directory(), "x.wimg");
        REQUIRE_FALSE(second);
        CHECK(second.error().code() == ErrorCode::already_exists);
    }

    TEST_CASE("a file that has come meanwhile is not replaced without being told to") {
        tests::MemoryDisk disk;
        auto file = NewImageFile::create(disk.directory(), "x.wimg");
        REQUIRE(file);
        REQUIRE(disk.directory()->create("x.wimg"));
        disk.bytes_of("x.wimg") = old_contents;
        REQUIRE(file->append(new_contents));
        const auto published = file->publish();
        REQUIRE_FALSE(published);
        CHECK(published.error().code() == ErrorCode::already_exists);
        CHECK(disk.bytes_of("x.wimg") == old_contents);
    }

    TEST_CASE("N05 a file that is to be replaced is there until the new one is whole") {
        std::uint64_t last_call = 0;
        {
            auto disk = disk_with_old_file();
            disk.set_script([&last_call](std::uint64_t call) {
                last_call = call;
                return tests::DiskFault::none;
            });
            REQUIRE(write(disk, ExistingFile::replaced));
            CHECK(disk.bytes_of("x.wimg") == new_contents);
            CHECK(last_call >= 5);
        }
        for (const auto fault :
             {tests::DiskFault::before, tests::DiskFault::after, tests::DiskFault::halfway}) {
            for (std::uint64_t at = 0; at <= last_call; ++at) {
                for (const bool names_kept : {false, true}) {
                    auto disk = disk_with_old_file();
                    disk.set_script([at, fault](std::uint64_t call) {
                        return call == at ? fault : tests::DiskFault::none;
                    });
                    CHECK_FALSE(write(disk, ExistingFile::replaced));
                    disk.set_script({});
                    disk.lose_power(150, names_kept);
                    const auto& there = disk.bytes_of("x.wimg");
                    const bool is_whole = there == old_contents || there == new_contents;
                    CHECK_MESSAGE(is_whole, fmt::format("call {}", at));
                }
            }
        }
    }

    TEST_CASE("an existing file is refused before anything is made") {
        const tests::TempDirectory directory;
        const auto path = directory.path() / "x.wimg";
        CHECK(NewImageFile::check(path));
        CHECK(NewImageFile::check(path, ExistingFile::replaced));
        {
            REQUIRE(NewImageFile::create(path)->publish());
        }
        CHECK(NewImageFile::check(path).error().code() == ErrorCode::already_exists);
        CHECK(NewImageFile::create(path).error().code() == ErrorCode::already_exists);
        CHECK(NewImageFile::check(path, ExistingFile::replaced));
        std::filesystem::create_directory(directory.path() / "d");
        const auto refused = NewImageFile::check(directory.path() / "d", ExistingFile::replaced);
        CHECK(refused.error().code() == ErrorCode::already_exists);
        CHECK(
            NewImageFile::check(directory.path() / "no" / "x.wimg").error().code() ==
            ErrorCode::not_found);
    }

    TEST_CASE("what was written is not kept in the page cache") {
        constexpr long tmpfs_magic = 0x01021994;
        const tests::TempDirectory directory;
        struct statfs about{};
        REQUIRE(::statfs(directory.path().c_str(), &about) == 0);
        if (about.f_type == tmpfs_magic) {
            MESSAGE("SKIPPED: a tmpfs is the page cache");
            return;
        }
        const auto path = directory.path() / "x.wimg";
        constexpr std::size_t piece = std::size_t{1} << 20U;
        constexpr std::size_t pieces = 80;
        auto file = NewImageFile::create(path);
        REQUIRE(file);
        const auto temporary = path.string() + fmt::format(".{}.new", ::getpid());
        for (std::size_t i = 0; i < pieces; ++i) {
            REQUIRE(file->append(File(piece, std::byte{7})));
        }
        // All but the two windows under way and what is behind them.
        CHECK(resident_share(temporary, piece * pieces) < 0.7);
        REQUIRE(file->publish());
        CHECK(resident_share(path, piece * pieces) < 0.1);
    }
}
