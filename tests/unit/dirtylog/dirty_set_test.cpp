// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/dirty_set.hpp"

#include <array>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::dirtylog;
using namespace wherry::formats;

namespace {

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

/// RAM with a hole, as a PC has it.
DirtySet pc_memory() {
    const std::array ram{pages(0, 100), pages(200, 70), pages(270, 30)};
    return DirtySet{ram};
}

std::vector<PageRange> runs_of(const DirtySet& set, std::uint64_t longest = 1000) {
    std::vector<PageRange> runs;
    set.for_each_run(PageCount{longest}, [&](PageRange run) { runs.push_back(run); });
    return runs;
}

} // namespace

TEST_SUITE("dirtylog.dirty_set") {

    TEST_CASE("what is marked over a hole lands in the RAM around it") {
        DirtySet set = pc_memory();
        set.mark(pages(90, 120));
        CHECK(runs_of(set) == std::vector{pages(90, 10), pages(200, 10)});
        CHECK(set.count() == PageCount{20});
        CHECK(set.contains(Gfn{99}));
        CHECK_FALSE(set.contains(Gfn{100}));
        CHECK_FALSE(set.contains(Gfn{5000}));
        set.unmark(pages(95, 110));
        CHECK(runs_of(set) == std::vector{pages(90, 5), pages(205, 5)});
        set.mark(pages(120, 10));
        CHECK(set.count() == PageCount{10});
    }

    TEST_CASE("marking all marks every page of RAM and nothing else") {
        DirtySet set = pc_memory();
        set.mark_all();
        CHECK(set.count() == PageCount{200});
        CHECK(runs_of(set) == std::vector{pages(0, 100), pages(200, 70), pages(270, 30)});
        set.clear();
        CHECK(set.is_empty());
    }

    TEST_CASE("runs never span two regions and are cut at the asked length") {
        DirtySet set = pc_memory();
        set.mark(pages(260, 20));
        CHECK(
            runs_of(set, 8) ==
            std::vector{pages(260, 8), pages(268, 2), pages(270, 8), pages(278, 2)});
    }

    TEST_CASE("the first run inside a range that is not all RAM") {
        DirtySet set = pc_memory();
        set.mark(pages(240, 40));
        CHECK(set.first_run_in(pages(0, 1000)) == pages(240, 30));
        CHECK(set.first_run_in(pages(265, 1000)) == pages(265, 5));
        CHECK(set.first_run_in(pages(275, 2)) == pages(275, 2));
        CHECK_FALSE(set.first_run_in(pages(90, 150)).has_value());
        CHECK_FALSE(set.first_run_in(pages(150, 20)).has_value());
        CHECK_FALSE(set.first_run_in(pages(280, 1000)).has_value());
    }

    TEST_CASE("sets merge and subtract region by region") {
        DirtySet a = pc_memory();
        DirtySet b = pc_memory();
        a.mark(pages(10, 10));
        b.mark(pages(15, 10));
        b.mark(pages(280, 1));
        DirtySet merged = a;
        merged.merge(b);
        CHECK(runs_of(merged) == std::vector{pages(10, 15), pages(280, 1)});
        merged.subtract(a);
        CHECK(runs_of(merged) == std::vector{pages(20, 5), pages(280, 1)});
    }

    TEST_CASE("taking runs takes each page once, in order, within the budget") {
        std::mt19937_64 random{6};
        for (int turn = 0; turn < 100; ++turn) {
            DirtySet set = pc_memory();
            for (int i = 0; i < 20; ++i) {
                set.mark(pages(random() % 300, 1 + random() % 10));
            }
            const DirtySet before = set;
            DirtySet taken = pc_memory();
            Gfn from{0};
            while (true) {
                const std::uint64_t budget = 1 + random() % 20;
                const auto runs = set.take_runs(from, PageCount{budget});
                if (runs.empty()) {
                    break;
                }
                PageCount count;
                for (const PageRange run : runs) {
                    CHECK(run.first() >= from);
                    from = run.end();
                    count += run.count();
                    taken.mark(run);
                }
                CHECK(count <= PageCount{budget});
                CHECK(taken.count() + set.count() == before.count());
            }
            CHECK(set.is_empty());
            CHECK(taken == before);
        }
    }

    TEST_CASE("what is marked behind the cursor waits for the next turn") {
        DirtySet set = pc_memory();
        set.mark(pages(50, 1));
        CHECK(set.take_runs(Gfn{0}, PageCount{10}) == std::vector{pages(50, 1)});
        set.mark(pages(10, 1));
        CHECK(set.take_runs(Gfn{51}, PageCount{10}).empty());
        CHECK(set.take_runs(Gfn{0}, PageCount{10}) == std::vector{pages(10, 1)});
    }

    TEST_CASE("a page marked again after it was taken is taken again") {
        DirtySet set = pc_memory();
        set.mark(pages(50, 2));
        CHECK(set.take_runs(Gfn{0}, PageCount{1}) == std::vector{pages(50, 1)});
        set.mark(pages(50, 1));
        CHECK(set.take_runs(Gfn{0}, PageCount{9}) == std::vector{pages(50, 2)});
    }

} // TEST_SUITE
