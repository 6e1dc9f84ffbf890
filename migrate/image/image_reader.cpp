// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_reader.hpp"

#include "formats/image_bytes.hpp"
#include "formats/page_set.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::damaged;
using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::IndexEntry;
using formats::PageCount;
using formats::PageMapEntry;
using formats::PageRange;
using formats::PageRun;
using formats::Result;
using formats::SectionType;
using formats::Status;

namespace {

std::vector<std::size_t> page_map_sections(std::span<const IndexEntry> sections) {
    std::vector<std::size_t> numbers;
    for (std::size_t number = 0; number < sections.size(); ++number) {
        if (sections[number].head.type == SectionType::page_map) {
            numbers.push_back(number);
        }
    }
    return numbers;
}

/// To make room for at once.
std::size_t page_map_entries(std::span<const IndexEntry> sections) {
    constexpr std::size_t most = std::size_t{1} << 20U;
    std::size_t bytes = 0;
    for (const IndexEntry& entry : sections) {
        if (entry.head.type == SectionType::page_map) {
            bytes += entry.head.payload_length.value();
        }
    }
    return std::min(most, bytes / formats::page_map_entry_size);
}

/// What of a chunk counts by `map`, where all of it is there as `counting` has it.
template <typename Map>
Status take_chunk(
    const ImageSection& chunk,
    std::span<const PageRun> runs,
    std::uint32_t number,
    const Map& map,
    const TakePages& take) {
    std::span<const std::byte> rest{chunk.payload};
    for (const PageRun& run : runs) {
        const auto bytes = rest.first(run.encoded_length.value());
        rest = rest.subspan(bytes.size());
        if (auto taken = take_counting(run.pages, bytes, only_chunk(number), map, take); !taken) {
            return taken;
        }
    }
    return {};
}

template <typename Map>
PageCount counting_pages(std::span<const PageRun> runs, std::uint32_t number, const Map& map) {
    PageCount counting;
    for (const PageRun& run : runs) {
        map.for_each_in(only_chunk(number), run.pages, [&counting](PageRange part) {
            counting += part.count();
        });
    }
    return counting;
}

} // namespace

Result<ImageReader>
ImageReader::open(std::unique_ptr<ImageSource> source, const ImageAccess& access) {
    auto outline = read_outline(*source, access);
    if (!outline) {
        return fail(std::move(outline).error().during(source->name()));
    }
    if (outline->is_encrypted() && !outline->key) {
        return fail(ErrorCode::authentication, source->name() + ": it is encrypted: --key KEYFILE");
    }
    if (outline->header.base && access.place == ChainPlace::alone) {
        return fail(
            ErrorCode::unsupported,
            source->name() + ": it is based on another image, and is nothing without it here");
    }
    ImageReader reader{std::move(source), *std::move(outline)};
    auto loaded = reader.load_description();
    if (!loaded) {
        return fail(std::move(loaded).error().during(reader.name()));
    }
    return reader;
}

Result<ImageReader>
ImageReader::open(const std::filesystem::path& path, const ImageAccess& access) {
    auto source = open_image(path);
    if (!source) {
        return fail(std::move(source).error());
    }
    return open(*std::move(source), access);
}

Status ImageReader::load_description() {
    const auto number = outline_.only_one_of(SectionType::description);
    if (!number) {
        return fail(number.error());
    }
    auto section = read_section(*number);
    if (!section) {
        return fail(std::move(section).error());
    }
    auto description = decode_image_description(section->payload);
    if (!description) {
        return fail(std::move(description).error());
    }
    description_ = *std::move(description);
    return {};
}

Result<ImageSection> ImageReader::read_section(std::size_t number) const {
    return migrate::read_section(*source_, outline_, number);
}

std::string ImageReader::place_in_file(std::size_t number) const {
    return name() + ": " + outline_.place_of(number);
}

Result<std::vector<std::byte>> ImageReader::machine_state() {
    const auto number = outline_.only_one_of(SectionType::machine_state);
    if (!number) {
        return fail(Error{number.error()}.during(name()));
    }
    auto section = read_section(*number);
    if (!section) {
        return fail(std::move(section).error().during(name()));
    }
    return std::move(section->payload);
}

Result<dirtylog::DirtySet> ImageReader::absent() {
    auto pages = no_pages_of(description_.plan);
    for (std::size_t number = 0; number < sections().size(); ++number) {
        if (sections()[number].head.type != SectionType::absent_pages) {
            continue;
        }
        const auto section = read_section(number);
        if (!section) {
            return fail(Error{section.error()}.during(name()));
        }
        const auto set = formats::decode_page_set(section->payload);
        if (!set) {
            return fail(Error{set.error()}.during(outline_.place_of(number)).during(name()));
        }
        formats::PageBitmap named{set->pages};
        named.merge_words(set->words);
        for (auto run = named.next_run(set->pages.first(), set->pages.count()); run;
             run = named.next_run(run->end(), set->pages.count())) {
            pages.mark(*run);
        }
    }
    if (pages.count() != description_.absent) {
        return damaged(fmt::format(
            "{}: it says that it lacks {} pages of RAM, and names {}",
            name(),
            description_.absent.value(),
            pages.count().value()));
    }
    return pages;
}

bool ImageReader::has_page_map() const {
    return std::ranges::any_of(sections(), [](const IndexEntry& entry) {
        return entry.head.type == SectionType::page_map;
    });
}

bool ImageReader::may_supersede() const {
    return outline_.header.needs(formats::superseded_pages_feature);
}

/// Section `number`'s entries, behind those that are there.
Status ImageReader::append_page_map(std::size_t number, std::vector<PageMapEntry>& entries) const {
    const auto section = read_section(number);
    if (!section) {
        return fail(section.error());
    }
    const auto before = static_cast<std::ptrdiff_t>(entries.size());
    auto decoded = formats::decode_page_map(section->payload, entries);
    if (!decoded) {
        return fail(std::move(decoded).error().during(outline_.place_of(number)));
    }
    const auto wrong = std::find_if_not(
        entries.begin() + before, entries.end(), [this](const PageMapEntry& entry) {
            return is_ram(description_.plan.regions, entry.pages) &&
                   entry.chunk < sections().size() &&
                   sections()[entry.chunk].head.type == SectionType::pages;
        });
    if (wrong != entries.end()) {
        return damaged(fmt::format(
            "{}: pages {} cannot be in section {}",
            outline_.place_of(number),
            numbers_of(wrong->pages),
            wrong->chunk));
    }
    return {};
}

/// From its sections; whether it is that of the chunks is not known yet.
Result<std::unique_ptr<PageMap>> ImageReader::load_page_map() {
    std::vector<PageMapEntry> entries;
    entries.reserve(page_map_entries(sections()));
    for (const std::size_t number : page_map_sections(sections())) {
        if (auto appended = append_page_map(number, entries); !appended) {
            return fail(std::move(appended).error());
        }
    }
    return std::make_unique<PageMap>(std::move(entries));
}

Result<std::unique_ptr<PageMapParts>> ImageReader::page_map_parts() const {
    auto numbers = page_map_sections(sections());
    std::vector<Gfn> firsts;
    for (const std::size_t number : numbers) {
        const IndexEntry& entry = sections()[number];
        if (entry.head.is_sealed || entry.head.is_compressed ||
            entry.head.payload_length < Bytes{formats::page_map_entry_size}) {
            return std::unique_ptr<PageMapParts>{};
        }
        std::array<std::byte, formats::page_map_entry_size> first{};
        auto got = source_->read(entry.offset + formats::front_length(entry.head), first);
        if (!got) {
            return fail(std::move(got).error().during(name()));
        }
        firsts.push_back(formats::first_page_in(first));
    }
    if (firsts.empty() || !std::ranges::is_sorted(firsts)) {
        return std::unique_ptr<PageMapParts>{}; // all of it will tell what is wrong
    }
    return std::make_unique<PageMapParts>(
        std::move(firsts),
        [this,
         numbers = std::move(numbers)](std::size_t part) -> Result<std::vector<PageMapEntry>> {
            std::vector<PageMapEntry> entries;
            auto appended = append_page_map(numbers[part], entries);
            return appended ? Result<std::vector<PageMapEntry>>{std::move(entries)}
                            : fail(std::move(appended).error().during(name()));
        });
}

Result<const PageMap*> ImageReader::page_map() {
    if (page_map_) {
        return page_map_.get();
    }
    if (has_page_map()) {
        auto map = load_page_map();
        if (!map) {
            return fail(std::move(map).error().during(name()));
        }
        page_map_ = *std::move(map);
    } else {
        auto map =
            read_chunks(nullptr, [](PageRange, std::span<const std::byte>) { return Status{}; }, 1);
        if (!map) {
            return fail(std::move(map).error());
        }
        page_map_ = std::make_unique<PageMap>(*std::move(map));
    }
    return page_map_.get();
}

Result<PageMap>
ImageReader::read_chunks(const PageMap* counting, const TakePages& take, unsigned threads) {
    auto lacking = absent();
    if (!lacking) {
        return fail(std::move(lacking).error());
    }
    ChunkWalk walk{*source_, outline_, description_.plan.regions, *std::move(lacking)};
    auto found = walk.run(counting, take, threads);
    return found ? std::move(found) : fail(std::move(found).error().during(name()));
}

Status ImageReader::for_each_run(const TakePages& take, unsigned threads) {
    const PageMap* counting = nullptr;
    if (has_page_map() || may_supersede()) {
        const auto map = page_map();
        if (!map) {
            return fail(map.error());
        }
        counting = *map;
    }
    const auto found = read_chunks(counting, take, threads);
    if (!found) {
        return fail(found.error());
    }
    if (counting != nullptr && *found != *counting) {
        return damaged(name() + ": its page map is not that of its chunks");
    }
    return {};
}

Result<ImageReader::Chunk> ImageReader::load_chunk(std::uint32_t number) const {
    auto section = read_section(number);
    if (!section) {
        return fail(std::move(section).error().during(name()));
    }
    auto runs = runs_of(*section);
    if (!runs) {
        return fail(std::move(runs).error().during(place_in_file(number)));
    }
    return Chunk{.section = *std::move(section), .runs = *std::move(runs)};
}

Status ImageReader::read_chunk(std::uint32_t number, const TakePages& take) const {
    formats::invariant(page_map_ != nullptr, "the page map is asked for before a chunk");
    const auto chunk = load_chunk(number);
    if (!chunk) {
        return fail(chunk.error());
    }
    if (counting_pages(chunk->runs, number, *page_map_) != page_map_->count_in(number)) {
        return fail(
            Error{ErrorCode::corrupted, "it lacks pages that the page map says it has"}.during(
                place_in_file(number)));
    }
    auto taken = take_chunk(chunk->section, chunk->runs, number, *page_map_, take);
    return taken ? taken : fail(std::move(taken).error().during(place_in_file(number)));
}

Status
ImageReader::read_chunk(std::uint32_t number, PageMapParts& map, const TakePages& take) const {
    const auto chunk = load_chunk(number);
    if (!chunk) {
        return fail(chunk.error());
    }
    for (const PageRun& run : chunk->runs) {
        if (auto loaded = map.load(run.pages); !loaded) {
            return loaded;
        }
    }
    auto done =
        formats::then(map.note_count(number, counting_pages(chunk->runs, number, map)), [&] {
            return take_chunk(chunk->section, chunk->runs, number, map, take);
        });
    return done ? done : fail(std::move(done).error().during(place_in_file(number)));
}

Status ImageReader::verify(unsigned threads) {
    for (std::size_t number = 0; number < sections().size(); ++number) {
        if (formats::is_known(sections()[number].head.type)) {
            continue;
        }
        auto good = check_section(*source_, outline_, number);
        if (!good) {
            return fail(std::move(good).error().during(name()));
        }
    }
    const auto state = machine_state();
    if (!state) {
        return fail(state.error());
    }
    return for_each_run([](PageRange, std::span<const std::byte>) { return Status{}; }, threads);
}

} // namespace wherry::migrate
