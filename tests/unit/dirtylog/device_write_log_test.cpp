// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/device_write_log.hpp"

#include "mapped_memory.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::dirtylog;
using namespace wherry::formats;
using wherry::dirtylog::test::pages;
using wherry::vmm::MemoryRegion;

namespace {

const std::array<MemoryRegion, 2> regions{{
    {.pages = pages(0, 130), .host = nullptr, .file_offset = Bytes{0}},
    {.pages = pages(1000, 64), .host = nullptr, .file_offset = Bytes{130 * page_size}},
}};

DirtySet no_pages() {
    return DirtySet{std::array{regions[0].pages, regions[1].pages}};
}

} // namespace

TEST_SUITE("dirtylog.device_write_log") {

    TEST_CASE("what was announced is drained once and added to what was there") {
        DeviceWriteLog log{regions};
        log.wrote(pages(60, 70));
        log.wrote(pages(1063, 1));
        DirtySet set = no_pages();
        set.mark(pages(0, 1));
        log.drain(set);
        DirtySet expected = no_pages();
        expected.mark(pages(0, 1));
        expected.mark(pages(60, 70));
        expected.mark(pages(1063, 1));
        CHECK(set == expected);
        DirtySet again = no_pages();
        log.drain(again);
        CHECK(again.is_empty());
    }

    TEST_CASE("an announcement over the end of a region is taken for the pages that are RAM") {
        DeviceWriteLog log{regions};
        log.wrote(pages(120, 900));
        DirtySet set = no_pages();
        log.drain(set);
        CHECK(set.count() == PageCount{10 + 20});
    }

    TEST_CASE("no announcement of several threads is lost while the log is drained") {
        DeviceWriteLog log{regions};
        // Each thread counts before it announces; the drained side copies what it is told of.
        constexpr std::uint64_t size = 130;
        std::array<std::atomic<std::uint64_t>, size> counters{};
        std::atomic<int> running = 3;
        const auto work = [&](std::uint64_t seed) {
            std::mt19937_64 random{seed};
            for (int i = 0; i < 100'000; ++i) {
                const std::uint64_t page = random() % size;
                counters[page].fetch_add(1, std::memory_order_relaxed);
                log.wrote(pages(page, 1));
            }
            --running;
        };
        std::vector<std::thread> threads;
        for (std::uint64_t seed = 1; seed <= 3; ++seed) {
            threads.emplace_back(work, seed);
        }
        std::array<std::uint64_t, size> copy{};
        bool is_last = false;
        while (!is_last) {
            is_last = running == 0;
            DirtySet set = no_pages();
            log.drain(set);
            set.for_each_run(PageCount{1}, [&](PageRange run) {
                const std::uint64_t page = run.first().value();
                copy[page] = counters[page].load(std::memory_order_relaxed);
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        for (std::uint64_t page = 0; page < size; ++page) {
            CHECK(copy[page] == counters[page].load());
        }
    }

} // TEST_SUITE
