// SPDX-License-Identifier: Apache-2.0
#include "formats/page_run.hpp"

#include "formats/little_endian.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

/// As a receiver sees it: the head of a batch and the length of the whole payload.
Result<std::vector<PageRun>> decode(std::span<const std::byte> head, Bytes payload_length) {
    auto header = decode_batch_header(head.first<batch_header_size>(), payload_length);
    if (!header) {
        return std::unexpected{std::move(header).error()};
    }
    return decode_batch_table(
        *header,
        head.subspan(batch_header_size).first(table_length(*header).value()),
        payload_length);
}

struct Entry {
    std::uint64_t first;
    std::uint32_t count;
    std::uint32_t encoded_length;
    std::uint8_t encoding;
    std::uint8_t reserved = 0;
};

/// A head with exactly these entries, right or wrong; decoded with the length they add up to.
Result<std::vector<PageRun>> decode_entries(const std::vector<Entry>& entries) {
    std::vector<std::byte> head(batch_header_size + run_entry_size * entries.size());
    store_little(std::span{head}, 4, static_cast<std::uint32_t>(entries.size()));
    Bytes length{head.size()};
    std::size_t at = batch_header_size;
    for (const Entry& entry : entries) {
        store_little(std::span{head}, at, entry.first);
        store_little(std::span{head}, at + 8, entry.count);
        store_little(std::span{head}, at + 12, entry.encoded_length);
        store_little(std::span{head}, at + 16, entry.encoding);
        store_little(std::span{head}, at + 23, entry.reserved);
        length += Bytes{entry.encoded_length};
        at += run_entry_size;
    }
    return decode(head, length);
}

ErrorCode fault_of(const std::vector<Entry>& entries) {
    const auto runs = decode_entries(entries);
    REQUIRE_FALSE(runs);
    return runs.error().code();
}

constexpr std::uint8_t zero = 0;
constexpr std::uint8_t raw = 1;

} // namespace

TEST_SUITE("formats.page_run") {

    TEST_CASE("a batch has these bytes") {
        PageBatchBuilder builder{3};
        CHECK(builder.add_raw(pages(0x1000, 2)) == PageCount{2});
        CHECK(builder.add_zero(pages(0x2000, 5)) == PageCount{5});
        const auto head = builder.head();
        REQUIRE(head.size() == 8 + 2 * 24);
        CHECK(load_little<std::uint32_t>(head, 0) == 3);
        CHECK(load_little<std::uint32_t>(head, 4) == 2);
        CHECK(load_little<std::uint64_t>(head, 8) == 0x1000);
        CHECK(load_little<std::uint32_t>(head, 16) == 2);
        CHECK(load_little<std::uint32_t>(head, 20) == 8192);
        CHECK(head[24] == std::byte{1});
        CHECK(load_little<std::uint64_t>(head, 32) == 0x2000);
        CHECK(load_little<std::uint32_t>(head, 40) == 5);
        CHECK(load_little<std::uint32_t>(head, 44) == 0);
        CHECK(head[48] == std::byte{0});
        CHECK(builder.payload_length() == Bytes{56 + 8192});
    }

    TEST_CASE("what a builder made is what a receiver decodes") {
        PageBatchBuilder builder{9};
        CHECK(builder.add_zero(pages(50, 3)) == PageCount{3});
        CHECK(builder.add_raw(pages(10, 4)) == PageCount{4});
        CHECK(builder.add_raw(pages(20, 1)) == PageCount{1});
        const auto header = decode_batch_header(
            builder.head().first<batch_header_size>(), builder.payload_length());
        CHECK(header == PageBatchHeader{.round = 9, .run_count = 3});
        const auto runs = decode(builder.head(), builder.payload_length());
        REQUIRE(runs);
        CHECK(std::ranges::equal(*runs, builder.runs()));
    }

    TEST_CASE("neighbours of one encoding become one run") {
        PageBatchBuilder builder{0};
        CHECK(builder.add_raw(pages(1, 2)) == PageCount{2});
        CHECK(builder.add_raw(pages(3, 2)) == PageCount{2});
        CHECK(builder.add_zero(pages(5, 1)) == PageCount{1});
        CHECK(builder.add_zero(pages(6, 1)) == PageCount{1});
        CHECK(builder.add_raw(pages(8, 1)) == PageCount{1}); // 7 is between
        REQUIRE(builder.runs().size() == 3);
        CHECK(builder.runs()[0].pages == pages(1, 4));
        CHECK(builder.runs()[1].pages == pages(5, 2));
        CHECK(builder.raw_pages() == PageCount{5});
        CHECK(builder.zero_pages() == PageCount{2});
    }

    TEST_CASE("a builder takes raw pages up to the limit and no more") {
        PageBatchBuilder builder{0};
        CHECK(builder.add_raw(pages(0, 200)) == PageCount{200});
        CHECK(builder.raw_room() == PageCount{56});
        CHECK(builder.add_raw(pages(1000, 100)) == PageCount{56});
        CHECK(builder.raw_room() == PageCount{0});
        CHECK(builder.add_raw(pages(1056, 1)) == PageCount{0});
        CHECK(builder.add_zero(pages(5000, 1)) == PageCount{1});
        CHECK(decode(builder.head(), builder.payload_length()));
        builder.reset(1);
        CHECK(builder.is_empty());
        CHECK(builder.add_raw(pages(1056, 1)) == PageCount{1});
    }

    TEST_CASE("a huge range of zero pages is taken in runs of the largest size") {
        PageBatchBuilder builder{0};
        const auto most = pages_per_zero_run.value();
        CHECK(builder.add_zero(pages(7, 3 * most)) == pages_per_zero_run);
        CHECK(builder.add_zero(pages(7 + most, 2 * most)) == pages_per_zero_run);
        CHECK(builder.runs().size() == 2);
        CHECK(decode(builder.head(), builder.payload_length()));
    }

    TEST_CASE("a batch with all runs in use is full, but its last run still grows") {
        PageBatchBuilder builder{0};
        for (std::uint64_t i = 0; i < runs_per_batch; ++i) {
            CHECK(builder.add_zero(pages(2 * i, 1)) == PageCount{1});
        }
        CHECK(builder.add_zero(pages(5000, 1)) == PageCount{0});
        CHECK(builder.add_raw(pages(5000, 1)) == PageCount{0});
        CHECK(builder.raw_room() == PageCount{0});
        CHECK(builder.add_zero(pages(2 * runs_per_batch - 1, 1)) == PageCount{1});
        CHECK(decode(builder.head(), builder.payload_length()));
    }

    TEST_CASE("the largest batch is exactly at the limit of a payload") {
        PageBatchBuilder builder{0};
        for (std::uint64_t i = 0; i < 255; ++i) {
            CHECK(builder.add_raw(pages(2 * i, 1)) == PageCount{1});
        }
        for (std::uint64_t i = 255; i < runs_per_batch - 1; ++i) {
            CHECK(builder.add_zero(pages(2 * i, 1)) == PageCount{1});
        }
        CHECK(builder.add_raw(pages(1'000'000, 5)) == PageCount{1});
        CHECK(builder.payload_length() == page_batch_limit);
    }

    TEST_CASE("random batches survive and give every page once") {
        std::mt19937_64 random{3};
        for (int turn = 0; turn < 300; ++turn) {
            PageBatchBuilder builder{0};
            std::map<std::uint64_t, PageEncoding> expected;
            std::uint64_t at = random() % 100;
            while (true) {
                const std::uint64_t count = 1 + random() % 9;
                const bool is_raw = random() % 2 == 0;
                const auto taken =
                    is_raw ? builder.add_raw(pages(at, count)) : builder.add_zero(pages(at, count));
                for (std::uint64_t i = 0; i < taken.value(); ++i) {
                    expected[at + i] = is_raw ? PageEncoding::raw : PageEncoding::zero;
                }
                if (taken < PageCount{count}) {
                    break;
                }
                at += count + random() % 2;
            }
            std::map<std::uint64_t, PageEncoding> decoded;
            const auto runs = decode(builder.head(), builder.payload_length());
            REQUIRE(runs);
            for (const PageRun& run : *runs) {
                for (std::uint64_t i = 0; i < run.pages.count().value(); ++i) {
                    CHECK(decoded.emplace(run.pages.first().value() + i, run.encoding).second);
                }
            }
            CHECK(decoded == expected);
        }
    }

    TEST_CASE("a batch is refused when one of its runs breaks a rule") {
        CHECK(decode_entries({{5, 1, 4096, raw}}));
        CHECK(fault_of({{5, 0, 0, zero}}) == ErrorCode::protocol);   // empty
        CHECK(fault_of({{5, 1, 4095, raw}}) == ErrorCode::protocol); // not its length
        CHECK(fault_of({{5, 1, 8192, raw}}) == ErrorCode::protocol);
        CHECK(fault_of({{5, 1, 4096, zero}}) == ErrorCode::protocol);   // bytes of a zero run
        CHECK(fault_of({{5, 1, 0, raw}}) == ErrorCode::protocol);       // none of a raw run
        CHECK(fault_of({{5, 1, 4096, 2}}) == ErrorCode::protocol);      // encoding
        CHECK(fault_of({{5, 1, 4096, raw, 1}}) == ErrorCode::protocol); // reserved
        CHECK(fault_of({{5, 257, 257 * 4096, raw}}) == ErrorCode::protocol);
        CHECK(fault_of({{5, (1U << 20U) + 1, 0, zero}}) == ErrorCode::protocol);
        CHECK(fault_of({{UINT64_MAX, 1, 0, zero}}) == ErrorCode::protocol);
        CHECK(fault_of({{(std::uint64_t{1} << 52U) - 1, 2, 0, zero}}) == ErrorCode::protocol);
    }

    TEST_CASE("a batch is refused when a page is in it twice, in whatever order") {
        CHECK(decode_entries({{5, 2, 0, zero}, {7, 1, 4096, raw}}));
        CHECK(decode_entries({{7, 1, 4096, raw}, {5, 2, 0, zero}}));
        CHECK(fault_of({{5, 3, 0, zero}, {7, 1, 4096, raw}}) == ErrorCode::protocol);
        CHECK(fault_of({{7, 1, 4096, raw}, {5, 3, 0, zero}}) == ErrorCode::protocol);
        CHECK(
            fault_of({{0, 100, 0, zero}, {200, 1, 0, zero}, {50, 1, 0, zero}}) ==
            ErrorCode::protocol);
        CHECK(fault_of({{9, 1, 0, zero}, {9, 1, 0, zero}}) == ErrorCode::protocol);
    }

    TEST_CASE("a table and a payload that do not fit each other are refused") {
        PageBatchBuilder builder{0};
        CHECK(builder.add_raw(pages(0, 2)) == PageCount{2});
        CHECK(decode(builder.head(), builder.payload_length()));
        CHECK_FALSE(decode(builder.head(), builder.payload_length() + Bytes{1}));
        CHECK_FALSE(decode(builder.head(), builder.payload_length() - Bytes{1}));
        CHECK_FALSE(decode(builder.head(), Bytes{31}));
        CHECK_FALSE(decode(builder.head(), Bytes{0}));
    }

    TEST_CASE("a run count outside of the limits is refused before there is a table") {
        std::array<std::byte, batch_header_size> bytes{};
        for (const std::uint32_t count : {0U, runs_per_batch + 1, 0xffffffffU}) {
            store_little(bytes, 4, count);
            CHECK_FALSE(decode_batch_header(bytes, page_batch_limit));
        }
        store_little(bytes, 4, runs_per_batch);
        CHECK(decode_batch_header(bytes, page_batch_limit));
    }

} // TEST_SUITE
