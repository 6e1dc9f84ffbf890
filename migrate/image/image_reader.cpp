// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_reader.hpp"

#include "formats/page_set.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::IndexEntry;
using formats::PageCount;
using formats::PageMapEntry;
using formats::PageRange;
using formats::PageRun;
using formats::Result;
using formats::SectionType;
using formats::Status;

namespace {

std::unexpected<Error> damaged(std::string what) {
    return fail(ErrorCode::corrupted, std::move(what));
}

bool is_ram(const Plan& plan, PageRange pages) {
    return std::ranges::any_of(
        plan.regions, [pages](PageRange region) { return region.contains(pages); });
}

bool meets(const dirtylog::DirtySet& set, PageRange pages) {
    const auto met = set.next_run(pages.first(), pages.count());
    return met && met->first() < pages.end();
}

std::string numbers_of(PageRange pages) {
    return fmt::format(
        "{:#x} to {:#x}", pages.first().value(), (pages.end() - PageCount{1}).value());
}

/// The parts of a run that count, each with its bytes; of a run of zeros there are none.
Status take_counting(
    const PageRun& run,
    std::span<const std::byte> bytes,
    std::uint32_t chunk,
    const PageMap& counting,
    const ImageReader::TakePages& take) {
    Status done;
    counting.for_each_in(chunk, run.pages, [&](PageRange part) {
        if (!done) {
            return;
        }
        const auto at = formats::bytes_of(part.first() - run.pages.first()).value();
        const auto length = formats::bytes_of(part.count()).value();
        done = take(part, bytes.empty() ? bytes : bytes.subspan(at, length));
    });
    return done;
}

} // namespace

Result<ImageReader> ImageReader::open(std::unique_ptr<ImageSource> source) {
    auto outline = read_outline(*source);
    if (!outline) {
        return fail(std::move(outline).error().during(source->name()));
    }
    ImageReader reader{std::move(source), *std::move(outline)};
    auto loaded = reader.load_description();
    if (!loaded) {
        return fail(std::move(loaded).error().during(reader.name()));
    }
    return reader;
}

Result<ImageReader> ImageReader::open(const std::filesystem::path& path) {
    auto source = open_image(path);
    if (!source) {
        return fail(std::move(source).error());
    }
    return open(*std::move(source));
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

/// From its sections; whether it is that of the chunks is not known yet.
Result<std::unique_ptr<PageMap>> ImageReader::load_page_map() {
    std::vector<PageMapEntry> entries;
    for (std::size_t number = 0; number < sections().size(); ++number) {
        if (sections()[number].head.type != SectionType::page_map) {
            continue;
        }
        const auto section = read_section(number);
        if (!section) {
            return fail(section.error());
        }
        const auto some = formats::decode_page_map(section->payload);
        if (!some) {
            return fail(Error{some.error()}.during(outline_.place_of(number)));
        }
        for (const PageMapEntry& entry : *some) {
            const bool is_behind =
                entries.empty() || entries.back().pages.end() <= entry.pages.first();
            if (!is_behind || !is_ram(description_.plan, entry.pages) ||
                entry.chunk >= sections().size() ||
                sections()[entry.chunk].head.type != SectionType::pages) {
                return damaged(fmt::format(
                    "{}: pages {} cannot be in section {}",
                    outline_.place_of(number),
                    numbers_of(entry.pages),
                    entry.chunk));
            }
            entries.push_back(entry);
        }
    }
    return std::make_unique<PageMap>(std::move(entries));
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
            read_chunks(nullptr, [](PageRange, std::span<const std::byte>) { return Status{}; });
        if (!map) {
            return fail(std::move(map).error());
        }
        page_map_ = std::make_unique<PageMap>(*std::move(map));
    }
    return page_map_.get();
}

Status ImageReader::take_chunk(
    std::uint32_t number,
    const dirtylog::DirtySet& absent,
    PageMapBuilder& found,
    const PageMap* counting,
    const TakePages& take) const {
    const auto chunk = read_section(number);
    if (!chunk) {
        return fail(chunk.error());
    }
    const auto place = [&] {
        return outline_.place_of(number);
    };
    const auto runs = runs_of(*chunk);
    if (!runs) {
        return fail(Error{runs.error()}.during(place()));
    }
    std::span<const std::byte> rest{chunk->payload};
    for (const PageRun& run : *runs) {
        if (!is_ram(description_.plan, run.pages) || meets(absent, run.pages) ||
            (!may_supersede() && found.has_any(run.pages))) {
            return damaged(fmt::format(
                "{}: not all of its pages {} are RAM that is in this image, and once",
                place(),
                numbers_of(run.pages)));
        }
        found.add(run.pages, number);
        const auto bytes = rest.first(run.encoded_length.value());
        rest = rest.subspan(bytes.size());
        if (run.encoding == formats::PageEncoding::zero) {
            continue;
        }
        auto taken = counting != nullptr ? take_counting(run, bytes, number, *counting, take)
                                         : take(run.pages, bytes);
        if (!taken) {
            return fail(std::move(taken).error().during(place()));
        }
    }
    return {};
}

Result<PageMap> ImageReader::read_chunks(const PageMap* counting, const TakePages& take) {
    const auto lacking = absent();
    if (!lacking) {
        return fail(lacking.error());
    }
    PageMapBuilder found{description_.plan.regions};
    for (std::size_t number = 0; number < sections().size(); ++number) {
        if (sections()[number].head.type != SectionType::pages) {
            continue;
        }
        auto taken =
            take_chunk(static_cast<std::uint32_t>(number), *lacking, found, counting, take);
        if (!taken) {
            return fail(std::move(taken).error().during(name()));
        }
    }
    return found.build();
}

Status ImageReader::for_each_run(const TakePages& take) {
    const PageMap* counting = nullptr;
    if (has_page_map() || may_supersede()) {
        const auto map = page_map();
        if (!map) {
            return fail(map.error());
        }
        counting = *map;
    }
    const auto found = read_chunks(counting, take);
    if (!found) {
        return fail(found.error());
    }
    if (counting != nullptr && *found != *counting) {
        return damaged(name() + ": its page map is not that of its chunks");
    }
    return {};
}

Status ImageReader::read_chunk(std::uint32_t number, const TakePages& take) const {
    formats::invariant(page_map_ != nullptr, "the page map is asked for before a chunk");
    const auto chunk = read_section(number);
    if (!chunk) {
        return fail(Error{chunk.error()}.during(name()));
    }
    const auto failed = [&](Error error) {
        return fail(std::move(error).during(outline_.place_of(number)).during(name()));
    };
    const auto runs = runs_of(*chunk);
    if (!runs) {
        return failed(runs.error());
    }
    PageCount counting;
    for (const PageRun& run : *runs) {
        page_map_->for_each_in(
            number, run.pages, [&counting](PageRange part) { counting += part.count(); });
    }
    if (counting != page_map_->count_in(number)) {
        return failed({ErrorCode::corrupted, "it lacks pages that the page map says it has"});
    }
    std::span<const std::byte> rest{chunk->payload};
    for (const PageRun& run : *runs) {
        const auto bytes = rest.first(run.encoded_length.value());
        rest = rest.subspan(bytes.size());
        if (auto taken = take_counting(run, bytes, number, *page_map_, take); !taken) {
            return failed(std::move(taken).error());
        }
    }
    return {};
}

Status ImageReader::verify() {
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
    return for_each_run([](PageRange, std::span<const std::byte>) { return Status{}; });
}

} // namespace wherry::migrate
