// SPDX-License-Identifier: Apache-2.0
// A page map that is read as it is asked for.
#include "migrate/image/page_map_parts.hpp"

#include "tests/support/image_bench.hpp"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::ErrorCode;
using formats::Gfn;
using formats::PageCount;
using formats::PageMapEntry;
using tests::must;
using tests::range;

namespace {

using Entries = std::vector<PageMapEntry>;

/// Three parts: pages 10 to 29, with a gap; 40 and 41; 50 to 59.
std::vector<Entries> three() {
    return {
        {{.pages = range(10, 5), .chunk = 1}, {.pages = range(20, 10), .chunk = 2}},
        {{.pages = range(40, 2), .chunk = 1}},
        {{.pages = range(50, 10), .chunk = 3}}};
}

/// Parts as they are, with what was read of them.
struct Bench {
    std::vector<Entries> parts = three();
    std::set<std::size_t> is_read;
    std::set<std::size_t> fails;
    PageMapParts map;

    explicit Bench(std::vector<Gfn> firsts = {Gfn{10}, Gfn{40}, Gfn{50}})
        : map{std::move(firsts), [this](std::size_t number) -> formats::Result<Entries> {
                  if (fails.contains(number)) {
                      return formats::fail(ErrorCode::io, "the disk is broken");
                  }
                  is_read.insert(number);
                  return parts.at(number);
              }} {}

    std::vector<std::uint32_t> chunks_of(std::uint64_t first, std::uint64_t count) {
        must(map.load(range(first, count)));
        std::vector<std::uint32_t> chunks;
        map.for_each_entry(
            range(first, count), [&](const PageMapEntry& entry) { chunks.push_back(entry.chunk); });
        return chunks;
    }
};

using Chunks = std::vector<std::uint32_t>;

} // namespace

TEST_SUITE("migrate.image.page_map_parts") {
    TEST_CASE("only what decides about a page is read") {
        Bench bench;
        CHECK(bench.is_read.empty());
        CHECK(bench.chunks_of(22, 1) == Chunks{2});
        CHECK(bench.is_read == std::set<std::size_t>{0});
        CHECK(bench.chunks_of(16, 2).empty()); // in a gap inside a part
        CHECK(bench.is_read == std::set<std::size_t>{0});
        CHECK_FALSE(bench.map.is_whole());
        CHECK(bench.chunks_of(55, 100) == Chunks{3});
        CHECK(bench.is_read == std::set<std::size_t>{0, 2});
    }

    TEST_CASE("that a page is in no part is known once those around it have been read") {
        Bench bench;
        CHECK(bench.chunks_of(45, 1).empty()); // behind the second part
        CHECK(bench.is_read == std::set<std::size_t>{1, 2});
        Bench in_front;
        CHECK(in_front.chunks_of(0, 10).empty());
        CHECK(in_front.is_read == std::set<std::size_t>{0});
        Bench behind;
        CHECK(behind.chunks_of(60, 1).empty());
        CHECK(behind.is_read == std::set<std::size_t>{2});
    }

    TEST_CASE("a range over several parts has the entries of all") {
        Bench bench;
        CHECK(bench.chunks_of(0, 1000) == Chunks{1, 2, 1, 3});
        CHECK(bench.map.is_whole());
        Bench some;
        CHECK(some.chunks_of(25, 16) == Chunks{2, 1});
        std::vector<formats::PageRange> parts;
        some.map.for_each_in(
            only_chunk(1), range(25, 16), [&](formats::PageRange part) { parts.push_back(part); });
        CHECK(parts == std::vector{range(40, 1)});
    }

    TEST_CASE("a part that begins elsewhere than it seemed to is never believed") {
        for (const std::uint64_t second : {29U, 30U, 39U, 41U, 49U}) {
            CAPTURE(second);
            Bench bench{{Gfn{10}, Gfn{second}, Gfn{50}}};
            // Whichever part a page between the two is looked for in.
            for (const std::uint64_t page : {second, std::uint64_t{40}, std::uint64_t{45}}) {
                const auto loaded = bench.map.load(range(page, 1));
                REQUIRE_FALSE(loaded);
                CHECK(loaded.error().code() == ErrorCode::corrupted);
            }
        }
        Bench first{{Gfn{5}, Gfn{40}, Gfn{50}}};
        CHECK_FALSE(first.map.load(range(2, 1)));
        CHECK_FALSE(first.map.load(range(7, 1)));
        Bench empty;
        empty.parts[1].clear();
        CHECK_FALSE(empty.map.load(range(40, 1)));
        Bench overlapping;
        overlapping.parts[0].back().pages = range(20, 21);
        CHECK_FALSE(overlapping.map.load(range(20, 1)));
    }

    TEST_CASE("a part that could not be read is read the next time") {
        Bench bench;
        bench.fails = {1};
        CHECK(bench.map.load(range(40, 1)).error().code() == ErrorCode::io);
        CHECK(bench.chunks_of(10, 1) == Chunks{1}); // others are no worse for it
        bench.fails.clear();
        CHECK(bench.chunks_of(40, 1) == Chunks{1});
    }

    TEST_CASE("what chunks have is held against the map as soon as that is whole") {
        Bench bench;
        must(bench.map.note_count(1, PageCount{7}));
        must(bench.map.note_count(2, PageCount{9})); // of 10
        for (std::size_t part = 0; part < bench.map.count(); ++part) {
            must(bench.map.load_part(part));
        }
        const auto checked = bench.map.check_counts();
        REQUIRE_FALSE(checked);
        CHECK(checked.error().text() == "section 2 lacks pages that the page map says it has");
        must(bench.map.note_count(3, PageCount{10}));
        CHECK_FALSE(bench.map.note_count(3, PageCount{11}));
        CHECK_FALSE(bench.map.note_count(77, PageCount{1}));
    }

    TEST_CASE("a map that is all there is a part of its own") {
        Entries all;
        for (const auto& part : three()) {
            all.insert(all.end(), part.begin(), part.end());
        }
        const PageMap whole{all};
        PageMapParts map{whole};
        CHECK(map.is_whole());
        must(map.load(range(0, 1000)));
        Entries found;
        map.for_each([&](const PageMapEntry& entry) { found.push_back(entry); });
        CHECK(found == all);
        must(map.note_count(1, PageCount{7}));
        CHECK_FALSE(map.note_count(1, PageCount{6}));
        const PageMap nothing{{}};
        PageMapParts none{nothing};
        must(none.load(range(0, 1000)));
        CHECK(none.is_whole());
    }
}
