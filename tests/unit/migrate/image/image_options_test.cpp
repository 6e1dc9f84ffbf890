// SPDX-License-Identifier: Apache-2.0
// Each way in which an image may be written, with each other: what is read is what was given.
#include "formats/image.hpp"
#include "tests/support/image_bench.hpp"

#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using tests::must;
using tests::range;

namespace {

using Page = tests::ImageBytes;
/// That are not zero, by number.
using Pages = std::map<std::uint64_t, Page>;

/// Runs of noise, of text and of nothing, through all of a machine's 512 pages.
Pages mixed_pages() {
    Pages pages;
    std::mt19937_64 random{7};
    for (std::uint64_t number = 0; number < 512; ++number) {
        Page page(formats::page_size);
        switch (number / 40 % 3) {
        case 0:
            std::ranges::generate(page, [&] { return static_cast<std::byte>(random()); });
            break;
        case 1:
            std::ranges::generate(
                page, [&, at = number]() mutable { return static_cast<std::byte>(at++ / 9); });
            break;
        default:
            continue;
        }
        pages.emplace(number, std::move(page));
    }
    return pages;
}

void give(ImageWriter& writer, const Pages& pages) {
    must(writer.add_machine_state(tests::ImageBytes(5000, std::byte{9})));
    for (const auto& [number, page] : pages) {
        must(writer.add_pages(range(number, 1), page));
    }
}

struct Taken {
    Pages pages;
    std::mutex mutex;

    auto taker() {
        return [this](PageRange run, std::span<const std::byte> bytes) {
            const std::scoped_lock lock{mutex};
            for (std::uint64_t at = 0; at < run.count().value(); ++at) {
                const auto page = bytes.subspan(at * formats::page_size, formats::page_size);
                pages[run.first().value() + at] = {page.begin(), page.end()};
            }
            return formats::Status{};
        };
    }
};

struct Way {
    std::string name;
    ImageOptions options;
};

std::vector<Way> ways() {
    std::vector<Way> ways;
    for (const auto layout : {ImageLayout::raw, ImageLayout::zstd}) {
        for (const std::uint64_t chunk : {1U, 16U, 256U}) {
            for (const unsigned workers : {0U, 3U}) {
                ways.push_back(
                    {.name = fmt::format(
                         "{}, {} pages a chunk, {} workers",
                         layout == ImageLayout::raw ? "raw" : "zstd",
                         chunk,
                         workers),
                     .options = {
                         .layout = layout, .chunk_pages = PageCount{chunk}, .workers = workers}});
            }
        }
    }
    return ways;
}

} // namespace

TEST_SUITE("migrate.image.options") {

    TEST_CASE("an image has what it was given, however it is written") {
        tests::ImageBench bench;
        const auto pages = mixed_pages();
        for (const auto& way : ways()) {
            CAPTURE(way.name);
            const auto file =
                bench.written(way.options, [&](ImageWriter& writer) { give(writer, pages); });
            auto reader = tests::reader_of(file);
            must(reader.verify(2));
            CHECK(must(reader.machine_state()) == tests::ImageBytes(5000, std::byte{9}));
            for (const unsigned threads : {1U, 3U}) {
                Taken taken;
                must(reader.for_each_run(taken.taker(), threads));
                CHECK(taken.pages == pages);
            }
            const auto* map = must(reader.page_map());
            Taken by_chunk;
            for (const auto& section : reader.sections()) {
                const auto number = static_cast<std::uint32_t>(&section - reader.sections().data());
                if (map->count_in(number) > PageCount{0}) {
                    CHECK(map->count_in(number) <= way.options.chunk_pages);
                    must(reader.read_chunk(number, by_chunk.taker()));
                }
            }
            CHECK(by_chunk.pages == pages);
        }
    }

    TEST_CASE("layout zstd compresses what becomes smaller, and leaves the rest as it is") {
        tests::ImageBench bench;
        const auto pages = mixed_pages();
        const auto write = [&](ImageLayout layout) {
            return bench.written(
                {.layout = layout, .chunk_pages = PageCount{40}},
                [&](ImageWriter& writer) { give(writer, pages); });
        };
        const auto raw = write(ImageLayout::raw);
        const auto compressed = write(ImageLayout::zstd);
        // Of three kinds of pages one is noise, one is text and one is nothing.
        CHECK(compressed.size() < raw.size() * 6 / 10);
        std::size_t small = 0;
        std::size_t large = 0;
        const auto reader = tests::reader_of(compressed);
        for (const auto& section : reader.sections()) {
            if (section.head.type == formats::SectionType::pages) {
                ++(section.head.is_compressed ? small : large);
            }
        }
        CHECK(small >= 4);
        CHECK(large >= 4);
        for (const auto& section : tests::reader_of(raw).sections()) {
            CHECK_FALSE(section.head.is_compressed);
        }
    }

    TEST_CASE("of several threads' errors the first chunk's is told") {
        tests::ImageBench bench;
        const auto pages = mixed_pages();
        auto file = bench.written(
            {.chunk_pages = PageCount{4}}, [&](ImageWriter& writer) { give(writer, pages); });
        const auto begins = tests::boundaries_of(file);
        for (std::size_t number = 20; number < 30; ++number) {
            tests::flip(file, begins.at(number) + formats::image_block);
        }
        for (int round = 0; round < 20; ++round) {
            auto reader = tests::reader_of(file);
            const auto verified = reader.verify(4);
            REQUIRE(!verified.has_value());
            CHECK(
                verified.error().text() ==
                "test.wimg: section 20 (chunk of pages): its digest does not match");
        }
    }
}
