// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/chunk_walk.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::PageRun;
using formats::Result;
using formats::SectionType;
using formats::Status;

namespace {

bool meets(const dirtylog::DirtySet& set, PageRange pages) {
    return set.first_run_in(pages).has_value();
}

} // namespace

bool is_ram(std::span<const PageRange> regions, PageRange pages) noexcept {
    return std::ranges::any_of(
        regions, [pages](PageRange region) { return region.contains(pages); });
}

std::string numbers_of(PageRange pages) {
    return fmt::format(
        "{:#x} to {:#x}", pages.first().value(), (pages.end() - PageCount{1}).value());
}

Status
note_run(PageMapBuilder& found, const ChunkRules& rules, PageRange pages, std::uint32_t number) {
    if (!is_ram(rules.regions, pages) || (rules.absent != nullptr && meets(*rules.absent, pages)) ||
        (!rules.may_supersede && found.has_any(pages))) {
        return fail(
            ErrorCode::corrupted,
            fmt::format(
                "not all of its pages {} are RAM that is in this image, and once",
                numbers_of(pages)));
    }
    found.add(pages, number);
    return {};
}

ChunkWalk::ChunkWalk(
    ImageSource& source,
    const ImageOutline& image,
    std::vector<PageRange> regions,
    dirtylog::DirtySet absent)
    : source_{source},
      image_{image},
      regions_{std::move(regions)},
      absent_{std::move(absent)},
      may_supersede_{image.header.needs(formats::superseded_pages_feature)},
      found_{regions_} {
    for (std::uint32_t number = 0; number < image.sections.size(); ++number) {
        if (image.sections[number].head.type == SectionType::pages) {
            chunks_.push_back(number);
        }
    }
}

Result<PageMap> ChunkWalk::run(const PageMap* counting, const TakePages& take, unsigned threads) {
    {
        std::vector<std::jthread> others;
        for (unsigned i = 1; i < threads; ++i) {
            others.emplace_back([&] { work(counting, take); });
        }
        work(counting, take);
    }
    if (error_) {
        return fail(*std::move(error_));
    }
    return found_.build();
}

std::optional<std::size_t> ChunkWalk::next_chunk() {
    const std::scoped_lock lock{mutex_};
    return failed_ || begun_ == chunks_.size() ? std::nullopt : std::optional{begun_++};
}

void ChunkWalk::work(const PageMap* counting, const TakePages& take) {
    while (const auto turn = next_chunk()) {
        auto taken = take_chunk(*turn, counting, take);
        if (!taken) {
            give_up(*turn, std::move(taken).error());
        }
    }
}

void ChunkWalk::give_up(std::size_t turn, Error error) {
    const std::scoped_lock lock{mutex_};
    if (!failed_ || turn < *failed_) {
        failed_ = turn;
        error_ = std::move(error);
    }
    turn_came_.notify_all();
}

bool ChunkWalk::wait_for_turn(std::unique_lock<std::mutex>& lock, std::size_t turn) {
    turn_came_.wait(lock, [&] { return looked_at_ == turn || (failed_ && *failed_ < turn); });
    return looked_at_ == turn;
}

Status ChunkWalk::look_at(const std::vector<PageRun>& runs, std::uint32_t number) {
    const ChunkRules rules{
        .regions = regions_, .absent = &absent_, .may_supersede = may_supersede_};
    for (const PageRun& run : runs) {
        if (auto good = note_run(found_, rules, run.pages, number); !good) {
            return good;
        }
    }
    return {};
}

Status ChunkWalk::take_chunk(std::size_t turn, const PageMap* counting, const TakePages& take) {
    const std::uint32_t number = chunks_[turn];
    const auto chunk = read_section(source_, image_, number);
    if (!chunk) {
        return fail(chunk.error());
    }
    const auto failed = [&](Error error) {
        return fail(std::move(error).during(image_.place_of(number)));
    };
    const auto runs = runs_of(*chunk);
    if (!runs) {
        return failed(runs.error());
    }
    {
        std::unique_lock lock{mutex_};
        if (!wait_for_turn(lock, turn)) {
            return {};
        }
        if (auto good = look_at(*runs, number); !good) {
            return failed(std::move(good).error());
        }
        ++looked_at_;
        turn_came_.notify_all();
    }
    std::span<const std::byte> rest{chunk->payload};
    for (const PageRun& run : *runs) {
        const auto bytes = rest.first(run.encoded_length.value());
        rest = rest.subspan(bytes.size());
        if (run.encoding == formats::PageEncoding::zero) {
            continue;
        }
        auto taken = counting != nullptr
                         ? take_counting(run.pages, bytes, only_chunk(number), *counting, take)
                         : take(run.pages, bytes);
        if (!taken) {
            return failed(std::move(taken).error());
        }
    }
    return {};
}

} // namespace wherry::migrate
