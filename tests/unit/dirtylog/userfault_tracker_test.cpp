// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/userfault_tracker.hpp"

#include "mapped_memory.hpp"
#include "vmm/userfault_source.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

using namespace wherry::dirtylog;
using namespace wherry::formats;
using wherry::dirtylog::test::MappedMemory;
using wherry::dirtylog::test::pages;
using wherry::vmm::UniqueFd;

namespace {

using Pages = std::set<std::uint64_t>;

/// Null, and said so, where this host cannot track.
std::unique_ptr<UserfaultTracker> tracker_of(const MappedMemory& memory) {
    auto tracker = UserfaultTracker::open(memory.regions());
    if (!tracker) {
        const auto code = tracker.error().code();
        CHECK((code == ErrorCode::unsupported || code == ErrorCode::permission));
        fmt::print("SKIPPED: dirtylog.userfault_tracker: {}\n", tracker.error().text());
        return nullptr;
    }
    return *std::move(tracker);
}

Pages pages_of(const DirtySet& set) {
    Pages found;
    set.for_each_run(PageCount{UINT64_MAX}, [&](PageRange run) {
        for (std::uint64_t i = 0; i < run.count().value(); ++i) {
            found.insert(run.first().value() + i);
        }
    });
    return found;
}

class Deaf final : public wherry::vmm::FaultListener {
public:
    void wanted(PageRange /*pages*/) noexcept override {}
};

Pages collected(UserfaultTracker& tracker, const MappedMemory& memory) {
    DirtySet set{memory.ranges()};
    const auto status = tracker.collect(set);
    REQUIRE_MESSAGE(status.has_value(), status.error().text());
    return pages_of(set);
}

} // namespace

TEST_SUITE("dirtylog.userfault_tracker") {

    TEST_CASE("exactly the written pages are collected, once, whether they were there or holes") {
        const MappedMemory memory{{pages(0, 1536), pages(0x100000, 1000)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        for (std::uint64_t page = 0; page < 1536; page += 3) {
            memory.write(page, std::byte{1}); // the rest are holes
        }
        REQUIRE(tracker->start());
        CHECK(collected(*tracker, memory).empty());

        std::mt19937_64 random{7};
        for (int turn = 0; turn < 20; ++turn) {
            Pages written;
            for (std::uint64_t i = random() % 200; i > 0; --i) {
                const std::uint64_t page =
                    random() % 2 == 0 ? random() % 1536 : 0x100000 + random() % 1000;
                memory.write(page, static_cast<std::byte>(random()));
                written.insert(page);
            }
            CHECK(collected(*tracker, memory) == written);
            CHECK(collected(*tracker, memory).empty());
        }
        CHECK(tracker->stop());
    }

    TEST_CASE("reading a page does not make it dirty") {
        const MappedMemory memory{{pages(0, 600)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        memory.write(5, std::byte{1});
        REQUIRE(tracker->start());
        unsigned sum = 0;
        for (std::uint64_t page = 0; page < 600; ++page) {
            sum +=
                std::to_integer<unsigned>(*static_cast<volatile std::byte*>(memory.at(page) + 5));
        }
        CHECK(sum == 1);
        CHECK(collected(*tracker, memory).empty());
    }

    TEST_CASE("what was written before the start is not collected") {
        const MappedMemory memory{{pages(0, 100)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        memory.write(1, std::byte{1});
        REQUIRE(tracker->start());
        memory.write(2, std::byte{1});
        CHECK(collected(*tracker, memory) == Pages{2});
    }

    TEST_CASE("a write by a system call is collected as one by the program") {
        const MappedMemory memory{{pages(0, 100)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        REQUIRE(tracker->start());
        const UniqueFd zeros{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
        REQUIRE(::read(zeros.get(), memory.at(10), 3 * page_size) == 3 * page_size);
        CHECK(collected(*tracker, memory) == Pages{10, 11, 12});
    }

    TEST_CASE("a page whose memory was given back counts as written") {
        const MappedMemory memory{{pages(0, 100)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        for (std::uint64_t page = 0; page < 100; ++page) {
            memory.write(page, std::byte{1});
        }
        REQUIRE(tracker->start());
        memory.write(20, std::byte{2});
        REQUIRE(
            ::fallocate(
                memory.file(),
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                20 * page_size,
                page_size) == 0);
        CHECK(collected(*tracker, memory) == Pages{20});
    }

    TEST_CASE("more runs than one scan holds are all collected") {
        constexpr std::uint64_t size = 40'000;
        const MappedMemory memory{{pages(0, size)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        REQUIRE(tracker->start());
        Pages written;
        for (std::uint64_t page = 1; page < size; page += 2) {
            memory.write(page, std::byte{1});
            written.insert(page);
        }
        CHECK(collected(*tracker, memory) == written);
        CHECK(collected(*tracker, memory).empty());
    }

    TEST_CASE("no write of a thread that never pauses is lost") {
        constexpr std::uint64_t size = 4096;
        const MappedMemory memory{{pages(0, size)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        REQUIRE(tracker->start());
        // The writer counts in each page it writes; the copy is brought up to date from what is
        // collected, as a migration does. A lost write leaves the copy behind at the end.
        const auto counter = [&memory](std::uint64_t page) {
            return std::atomic_ref{*reinterpret_cast<std::uint64_t*>(memory.at(page))};
        };
        constexpr std::uint64_t writes = 300'000;
        std::atomic<bool> is_writing = true;
        std::thread writer{[&] {
            std::mt19937_64 random{8};
            for (std::uint64_t i = 0; i < writes; ++i) {
                counter(random() % size).fetch_add(1, std::memory_order_relaxed);
            }
            is_writing = false;
        }};
        std::vector<std::uint64_t> copy(size);
        int rounds = 0;
        bool is_last = false;
        while (!is_last) {
            is_last = !is_writing;
            ++rounds;
            for (const std::uint64_t page : collected(*tracker, memory)) {
                copy[page] = counter(page).load(std::memory_order_relaxed);
            }
        }
        writer.join();
        std::uint64_t total = 0;
        for (std::uint64_t page = 0; page < size; ++page) {
            CHECK(copy[page] == counter(page).load());
            total += copy[page];
        }
        CHECK(total == writes);
        CHECK(rounds >= 1);
    }

    TEST_CASE("a tracker can be started again after it was stopped, and two starts are refused") {
        const MappedMemory memory{{pages(0, 100)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        REQUIRE(tracker->start());
        CHECK(tracker->start().error().code() == ErrorCode::wrong_state);
        memory.write(1, std::byte{1});
        CHECK(tracker->stop());
        CHECK(tracker->stop());
        memory.write(2, std::byte{1});
        REQUIRE(tracker->start());
        memory.write(3, std::byte{1});
        CHECK(collected(*tracker, memory) == Pages{3});
    }

    TEST_CASE("a tracker that cannot read its log marks every page and says so") {
        const MappedMemory memory{{pages(0, 100), pages(200, 50)}};
        const auto tracker = tracker_of(memory);
        if (!tracker) {
            return;
        }
        DirtySet set{memory.ranges()};
        CHECK(tracker->collect(set).error().code() == ErrorCode::wrong_state);
        CHECK(set.count() == PageCount{150});
    }

    TEST_CASE("memory whose missing pages have all come is tracked like any other") {
        auto memory = wherry::vmm::GuestMemory::create(Bytes{4U << 20U}).value();
        auto tracker = UserfaultTracker::open(memory.regions());
        auto source = wherry::vmm::UserfaultSource::open(memory);
        if (!tracker || !source) {
            fmt::print(
                "SKIPPED: dirtylog.userfault_tracker: {}\n",
                tracker ? source.error().text() : tracker.error().text());
            return;
        }
        Deaf listener;
        const std::array missing{pages(3, 200), pages(700, 1)};
        DirtySet set_missing{memory};
        for (const auto& range : missing) {
            set_missing.mark(range);
        }
        REQUIRE((*source)->arm(set_missing.bitmaps(), listener, wherry::vmm::MemoryBefore::used));
        CHECK_FALSE((*tracker)->start()); // two cannot watch the same memory
        for (const auto& range : missing) {
            const std::vector<std::byte> bytes(bytes_of(range.count()).value(), std::byte{1});
            REQUIRE((*source)->place(range, bytes));
        }
        REQUIRE((*source)->disarm());
        REQUIRE((*tracker)->start());
        const std::array written{std::byte{2}};
        for (const std::uint64_t page : {5U, 300U, 700U}) {
            REQUIRE(memory.write(gpa_of(Gfn{page}), written));
        }
        DirtySet set{memory};
        REQUIRE((*tracker)->collect(set));
        CHECK(pages_of(set) == Pages{5, 300, 700});
    }

    TEST_CASE("memory that cannot be tracked is refused at the start and nothing stays on") {
        const MappedMemory memory{{pages(0, 100)}};
        auto regions = memory.regions();
        regions.push_back({.pages = pages(1000, 1), .host = nullptr, .file_offset = {}});
        auto tracker = UserfaultTracker::open(regions);
        if (!tracker) {
            fmt::print("SKIPPED: dirtylog.userfault_tracker: {}\n", tracker.error().text());
            return;
        }
        CHECK_FALSE((*tracker)->start());
        const auto second = tracker_of(memory);
        REQUIRE(second);
        CHECK(second->start()); // the first one does not hold on to the good region
    }

} // TEST_SUITE
