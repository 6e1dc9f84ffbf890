// SPDX-License-Identifier: Apache-2.0
#include "vmm/unmapped_pages.hpp"

#include "tests/unit/vmm/fault_fixture.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using formats::Gfn;
using formats::PageBitmap;
using formats::PageCount;
using formats::PageRange;
using tests::pages;
using vmm::UnmappedPages;

constexpr PageCount window{512};

/// Of two regions, from page 0 on and from page 4096 on.
struct Bench {
    std::vector<vmm::MemoryRegion> regions{
        {.pages = pages(0, 2048), .host = nullptr, .file_offset = formats::Bytes{0}},
        {.pages = pages(4096, 1000), .host = nullptr, .file_offset = formats::Bytes{0}}};
    UnmappedPages unmapped{regions, window};

    void add(std::size_t region, std::vector<PageRange> runs) {
        PageBitmap bitmap{regions[region].pages};
        for (const PageRange run : runs) {
            bitmap.set(run);
        }
        unmapped.add(bitmap);
    }
};

} // namespace

TEST_SUITE("vmm.unmapped_pages") {
    TEST_CASE("what is around a page is its run inside its window, and is taken once") {
        Bench bench;
        bench.add(0, {pages(500, 100), pages(700, 1)});
        CHECK(bench.unmapped.take_around(Gfn{550}) == pages(512, 88));
        CHECK(bench.unmapped.take_around(Gfn{550}) == pages(550, 1));
        CHECK(bench.unmapped.take_around(Gfn{511}) == pages(500, 12));
        CHECK(bench.unmapped.take_around(Gfn{100}) == pages(100, 1));
    }

    TEST_CASE("the rest is taken piece by piece, from where the guest works on") {
        Bench bench;
        bench.add(0, {pages(0, 100)});
        bench.add(1, {pages(4700, 70), pages(5095, 1)});
        CHECK(bench.unmapped.take_around(Gfn{4608}) == pages(4608, 1));
        CHECK(bench.unmapped.take_some(PageCount{64}) == pages(4700, 64));
        CHECK(bench.unmapped.take_some(PageCount{64}) == pages(4764, 6));
        CHECK(bench.unmapped.take_some(PageCount{64}) == pages(5095, 1));
        CHECK(bench.unmapped.take_some(PageCount{64}) == pages(0, 64));
        CHECK(bench.unmapped.take_some(PageCount{64}) == pages(64, 36));
        CHECK_FALSE(bench.unmapped.take_some(PageCount{64}).has_value());
    }

    TEST_CASE("nothing is left after clear") {
        Bench bench;
        bench.add(0, {pages(0, 100)});
        bench.unmapped.clear();
        CHECK_FALSE(bench.unmapped.take_some(PageCount{64}).has_value());
    }
}
