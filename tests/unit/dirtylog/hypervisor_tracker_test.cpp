// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/hypervisor_tracker.hpp"

#include "mapped_memory.hpp"
#include "scripted_partition.hpp"

#include <array>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::dirtylog;
using namespace wherry::formats;
using wherry::dirtylog::test::pages;
using wherry::dirtylog::test::ScriptedPartition;
using wherry::vmm::MemoryRegion;

namespace {

const std::array<MemoryRegion, 2> regions{{
    {.pages = pages(0, 100), .host = nullptr, .file_offset = Bytes{0}},
    {.pages = pages(0x1000, 300), .host = nullptr, .file_offset = Bytes{100 * page_size}},
}};

DirtySet no_pages() {
    return DirtySet{std::array{regions[0].pages, regions[1].pages}};
}

} // namespace

TEST_SUITE("dirtylog.hypervisor_tracker") {

    TEST_CASE("pages of all regions are collected and added to what was there") {
        ScriptedPartition partition;
        HypervisorTracker tracker{partition, regions};
        CHECK(tracker.name() == "scripted dirty log");
        partition.written = {50}; // before the start
        REQUIRE(tracker.start());
        partition.written = {3, 99, 0x1000, 0x1000 + 299};
        DirtySet set = no_pages();
        set.mark(pages(7, 1));
        REQUIRE(tracker.collect(set));
        DirtySet expected = no_pages();
        for (const std::uint64_t page : {3U, 7U, 99U, 0x1000U, 0x1000U + 299U}) {
            expected.mark(pages(page, 1));
        }
        CHECK(set == expected);
        DirtySet again = no_pages();
        REQUIRE(tracker.collect(again));
        CHECK(again.is_empty());
    }

    TEST_CASE("a log that cannot be read makes every page dirty and says so") {
        ScriptedPartition partition;
        HypervisorTracker tracker{partition, regions};
        REQUIRE(tracker.start());
        partition.unreadable_regions = {0x1000};
        DirtySet set = no_pages();
        const auto status = tracker.collect(set);
        REQUIRE_FALSE(status);
        CHECK(status.error().code() == ErrorCode::io);
        CHECK(status.error().text().ends_with("the hypervisor refused"));
        CHECK(set.count() == PageCount{400});

        partition.unreadable_regions.clear();
        partition.written = {1};
        DirtySet later = no_pages();
        REQUIRE(tracker.collect(later)); // the next try works as ever
        CHECK(later.count() == PageCount{1});
    }

    TEST_CASE("a log that is not on makes every page dirty") {
        ScriptedPartition partition;
        HypervisorTracker tracker{partition, regions};
        DirtySet set = no_pages();
        CHECK(tracker.collect(set).error().code() == ErrorCode::wrong_state);
        CHECK(set.count() == PageCount{400});
    }

    TEST_CASE("the log is off after a stop, after the tracker's end and after a failed start") {
        ScriptedPartition partition;
        {
            HypervisorTracker tracker{partition, regions};
            REQUIRE(tracker.start());
            CHECK(partition.is_on);
            CHECK(tracker.start().error().code() == ErrorCode::wrong_state);
            CHECK(tracker.stop());
            CHECK_FALSE(partition.is_on);
            CHECK(tracker.stop());
            REQUIRE(tracker.start());
        }
        CHECK_FALSE(partition.is_on);

        partition.can_start = false;
        HypervisorTracker tracker{partition, regions};
        CHECK_FALSE(tracker.start());
        DirtySet set = no_pages();
        CHECK_FALSE(tracker.collect(set));
    }

} // TEST_SUITE
