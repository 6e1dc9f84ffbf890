// SPDX-License-Identifier: Apache-2.0
#include "formats/page_bitmap.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

using Pages = std::set<std::uint64_t>;

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

/// What the runs of `bitmap` hold, page by page; also checks that runs are in order, not longer
/// than `longest`, and apart from each other unless they were cut.
Pages pages_of(const PageBitmap& bitmap, std::uint64_t longest = UINT64_MAX) {
    Pages found;
    Gfn at = bitmap.pages().first();
    bool was_cut = true;
    while (const auto run = bitmap.next_run(at, PageCount{longest})) {
        CHECK(run->count() <= PageCount{longest});
        const bool is_apart = run->first() > at;
        CHECK((is_apart || was_cut));
        was_cut = run->count() == PageCount{longest};
        for (std::uint64_t i = 0; i < run->count().value(); ++i) {
            found.insert(run->first().value() + i);
        }
        at = run->end();
    }
    return found;
}

struct Pair {
    PageBitmap bitmap;
    Pages model;
};

/// A bitmap of `range` in which runs were set and cleared at random, and what it should hold.
Pair random_pair(PageRange range, std::mt19937_64& random) {
    Pair pair{.bitmap = PageBitmap{range}, .model = {}};
    const std::uint64_t first = range.first().value();
    const std::uint64_t size = range.count().value();
    for (std::uint64_t step = random() % 30; step > 0; --step) {
        const std::uint64_t at = random() % size;
        const std::uint64_t most = random() % 2 == 0 ? 3 : size;
        const std::uint64_t count = 1 + random() % std::min(most, size - at);
        const bool is_set = random() % 3 != 0;
        if (count == 1) {
            is_set ? pair.bitmap.set(Gfn{first + at}) : pair.bitmap.clear(Gfn{first + at});
        } else {
            is_set ? pair.bitmap.set(pages(first + at, count))
                   : pair.bitmap.clear(pages(first + at, count));
        }
        for (std::uint64_t i = 0; i < count; ++i) {
            if (is_set) {
                pair.model.insert(first + at + i);
            } else {
                pair.model.erase(first + at + i);
            }
        }
    }
    return pair;
}

} // namespace

TEST_SUITE("formats.page_bitmap") {

    TEST_CASE("a bitmap holds what a set of numbers holds, whatever is done to it") {
        std::mt19937_64 random{4};
        for (const std::uint64_t size : {1U, 63U, 64U, 65U, 127U, 128U, 500U}) {
            for (int turn = 0; turn < 60; ++turn) {
                const PageRange range = pages(random() % 1000, size);
                const Pair pair = random_pair(range, random);
                CHECK(pages_of(pair.bitmap) == pair.model);
                CHECK(pages_of(pair.bitmap, 1 + random() % 5) == pair.model);
                CHECK(pair.bitmap.count() == PageCount{pair.model.size()});
                CHECK(pair.bitmap.is_empty() == pair.model.empty());
                for (std::uint64_t i = 0; i < size; ++i) {
                    const std::uint64_t page = range.first().value() + i;
                    REQUIRE(pair.bitmap.test(Gfn{page}) == pair.model.contains(page));
                }
            }
        }
    }

    TEST_CASE("the first run inside a range is that of the bitmap's part") {
        std::mt19937_64 random{6};
        for (int turn = 0; turn < 300; ++turn) {
            const PageRange range = pages(random() % 100, 1 + random() % 300);
            const Pair pair = random_pair(range, random);
            const std::uint64_t from = random() % range.count().value();
            const std::uint64_t end = from + 1 + random() % (range.count().value() - from);
            const PageRange within = range.part(PageCount{from}, PageCount{end});
            const auto first = pair.model.lower_bound(within.first().value());
            const auto run = pair.bitmap.first_run_in(within);
            if (first == pair.model.end() || *first >= within.end().value()) {
                CHECK_FALSE(run.has_value());
                continue;
            }
            std::uint64_t behind = *first;
            while (behind < within.end().value() && pair.model.contains(behind)) {
                ++behind;
            }
            CHECK(run == pages(*first, behind - *first));
        }
    }

    TEST_CASE("union, intersection and difference are those of sets of numbers") {
        std::mt19937_64 random{5};
        for (int turn = 0; turn < 200; ++turn) {
            const PageRange range = pages(random() % 100, 1 + random() % 300);
            const Pair a = random_pair(range, random);
            const Pair b = random_pair(range, random);
            Pages both;
            Pages only_a;
            for (const std::uint64_t page : a.model) {
                (b.model.contains(page) ? both : only_a).insert(page);
            }
            Pages either = a.model;
            either.insert(b.model.begin(), b.model.end());

            PageBitmap merged = a.bitmap;
            merged.merge(b.bitmap);
            CHECK(pages_of(merged) == either);
            PageBitmap words_merged = a.bitmap;
            words_merged.merge_words(b.bitmap.words());
            CHECK(words_merged == merged);
            PageBitmap intersected = a.bitmap;
            intersected.intersect(b.bitmap);
            CHECK(pages_of(intersected) == both);
            PageBitmap subtracted = a.bitmap;
            subtracted.subtract(b.bitmap);
            CHECK(pages_of(subtracted) == only_a);
        }
    }

    TEST_CASE("bits beyond the last page are never counted") {
        PageBitmap bitmap{pages(10, 70)};
        const std::array<std::uint64_t, 2> ones{UINT64_MAX, UINT64_MAX};
        bitmap.merge_words(ones);
        CHECK(bitmap.count() == PageCount{70});
        CHECK(bitmap.next_run(Gfn{10}, PageCount{1000}) == pages(10, 70));
        bitmap.clear_all();
        CHECK(bitmap.is_empty());
        bitmap.set_all();
        CHECK(bitmap.count() == PageCount{70});
        CHECK(bitmap.words()[1] == 0x3f);
    }

    TEST_CASE("the words of a part are merged wherever it begins and ends") {
        std::mt19937_64 random{5};
        for (int round = 0; round < 200; ++round) {
            const std::uint64_t first = random() % 150;
            const std::uint64_t count = 1 + random() % (300 - first);
            std::vector<std::uint64_t> words((count + 63) / 64);
            std::ranges::generate(words, std::ref(random));
            PageBitmap merged{pages(10, 300)};
            merged.set(Gfn{10 + random() % 300});
            PageBitmap one_by_one = merged;
            for (std::uint64_t at = 0; at < count; ++at) {
                if ((words[at / 64] >> (at % 64) & 1U) != 0) {
                    one_by_one.set(Gfn{10 + first + at});
                }
            }
            merged.merge_words(pages(10 + first, count), words);
            CHECK(merged == one_by_one);
        }
    }

    TEST_CASE("a scan from the end finds nothing and one from inside a run finds its rest") {
        PageBitmap bitmap{pages(0, 200)};
        bitmap.set(pages(60, 100));
        CHECK(bitmap.next_run(Gfn{100}, PageCount{1000}) == pages(100, 60));
        CHECK(bitmap.next_run(Gfn{159}, PageCount{1000}) == pages(159, 1));
        CHECK_FALSE(bitmap.next_run(Gfn{160}, PageCount{1000}));
        CHECK_FALSE(bitmap.next_run(Gfn{200}, PageCount{1000}));
    }

    TEST_CASE("the words have page i at bit i") {
        PageBitmap bitmap{pages(1000, 128)};
        bitmap.set(Gfn{1000 + 65});
        CHECK(bitmap.words().size() == 2);
        CHECK(bitmap.words()[0] == 0);
        CHECK(bitmap.words()[1] == 2);
    }

    TEST_CASE("a bitmap can be moved") {
        PageBitmap bitmap{pages(0, 100)};
        bitmap.set(Gfn{42});
        const PageBitmap moved = std::move(bitmap);
        CHECK(pages_of(moved) == Pages{42});
    }

} // TEST_SUITE
