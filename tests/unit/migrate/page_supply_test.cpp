// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_supply.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using migrate::PageSupply;

namespace {

vmm::GuestMemory memory_of(std::uint64_t mib) {
    return *vmm::GuestMemory::create(formats::Bytes{mib << 20U});
}

PageRange range(std::uint64_t first, std::uint64_t count) {
    return *PageRange::make(Gfn{first}, PageCount{count});
}

} // namespace

TEST_SUITE("migrate.page_supply") {
    TEST_CASE("all pages of a round are handed out, each once, to whoever asks") {
        const auto memory = memory_of(64);
        PageSupply supply{memory};
        dirtylog::DirtySet dirty{memory};
        dirty.mark(range(0, 5000));
        for (std::uint64_t page = 6000; page < 12'000; page += 3) {
            dirty.mark(range(page, 1));
        }
        supply.begin_round(dirty, 4);
        std::vector<std::atomic<int>> taken(16'384);
        std::vector<std::thread> takers;
        for (int i = 0; i < 4; ++i) {
            takers.emplace_back([&] {
                for (auto pieces = supply.take(PageCount{256}); !pieces.empty();
                     pieces = supply.take(PageCount{256})) {
                    PageCount sum;
                    for (const auto& piece : pieces) {
                        sum += piece.pages.count();
                        for (auto page = piece.pages.first(); page < piece.pages.end();
                             page = page + PageCount{1}) {
                            ++taken[(page - Gfn{0}).value()];
                        }
                    }
                    CHECK(sum <= PageCount{256});
                    supply.settle(pieces);
                }
            });
        }
        for (auto& taker : takers) {
            taker.join();
        }
        int wrong = 0;
        for (std::uint64_t page = 0; page < taken.size(); ++page) {
            wrong += taken[page] == (dirty.contains(Gfn{page}) ? 1 : 0) ? 0 : 1;
        }
        CHECK(wrong == 0);
    }

    TEST_CASE("what was told of a page is remembered for the next round, bit by bit") {
        const auto memory = memory_of(2);
        PageSupply supply{memory};
        dirtylog::DirtySet dirty{memory};
        dirty.mark(range(3, 128)); // half of what is left at once: 64
        const std::uint64_t patterns[]{
            0x8000'0000'0000'0001, ~std::uint64_t{0}, 0x00ff'00f0'1200'0000, 0};
        std::uint64_t before = 0;
        for (const std::uint64_t pattern : patterns) {
            supply.begin_round(dirty, 1);
            auto pieces = supply.take(PageCount{64});
            REQUIRE(pieces.size() == 1);
            CHECK(pieces[0].told_raw == before);
            pieces[0].told_raw = before = pattern;
            supply.settle(pieces);
        }
    }

    TEST_CASE(
        "a round that is broken off keeps what it has not handed out, and no other round does") {
        const auto memory = memory_of(64);
        PageSupply supply{memory};
        dirtylog::DirtySet dirty{memory};
        dirty.mark(range(100, 5000));
        dirty.mark(range(9000, 10));
        supply.begin_round(dirty, 1);
        supply.break_off();
        CHECK(supply.take(PageCount{256}).empty());
        CHECK(supply.unsent() == dirty); // before the first page
        supply.begin_round(dirty, 1);
        dirtylog::DirtySet left = dirty;
        for (int portion = 0; portion < 3; ++portion) {
            for (const auto& piece : supply.take(PageCount{200})) {
                left.unmark(piece.pages);
            }
        }
        CHECK(left.count() == PageCount{4410});
        supply.break_off();
        CHECK(supply.take(PageCount{256}).empty());
        CHECK(supply.unsent() == left);
        supply.begin_round(left, 1);
        while (!supply.take(PageCount{256}).empty()) {
        }
        CHECK(supply.unsent().is_empty());
    }

    TEST_CASE("the portions get smaller towards the end of a round") {
        const auto memory = memory_of(2);
        PageSupply supply{memory};
        dirtylog::DirtySet dirty{memory};
        dirty.mark(range(0, 400));
        supply.begin_round(dirty, 2);
        std::uint64_t last = 1000;
        for (auto pieces = supply.take(PageCount{256}); !pieces.empty();
             pieces = supply.take(PageCount{256})) {
            std::uint64_t sum = 0;
            for (const auto& piece : pieces) {
                sum += piece.pages.count().value();
            }
            CHECK(sum <= last);
            CHECK(sum <= 100);
            last = sum;
        }
        CHECK(last <= 16);
    }
}
