// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_difference.hpp"

#include "formats/page_digest.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

/// At most 64 MiB; one of each image of a chain, and more.
constexpr std::size_t kept_chunks = 2 * formats::image_depth_limit;
constexpr PageCount pages_per_step = formats::raw_pages_per_batch;

std::span<const std::byte> page_of(std::span<const std::byte> bytes, PageCount index) {
    return bytes.subspan(formats::bytes_of(index).value(), formats::page_size);
}

} // namespace

Result<ImageDifference> ImageDifference::from(ImageChain& chain) {
    const auto map = chain.page_map();
    return map ? Result<ImageDifference>{ImageDifference{chain, **map}} : fail(map.error());
}

Result<const ImageDifference::Chunk*> ImageDifference::chunk(std::uint32_t number) {
    if (const auto found = chunks_.find(number); found != chunks_.end()) {
        return &found->second;
    }
    Chunk read;
    auto done = chain_->read_chunk(number, [&](PageRange pages, std::span<const std::byte> bytes) {
        read.push_back({.pages = pages, .bytes = {bytes.begin(), bytes.end()}});
        return Status{};
    });
    if (!done) {
        return fail(std::move(done).error());
    }
    if (oldest_.size() == kept_chunks) {
        chunks_.erase(oldest_.front());
        oldest_.pop_front();
    }
    oldest_.push_back(number);
    return &chunks_.emplace(number, std::move(read)).first->second;
}

Result<bool> ImageDifference::differs(Gfn page, std::span<const std::byte> bytes) {
    const auto number = map_->chunk_of(page);
    if (!number) {
        return !formats::is_zero_page(bytes.first<formats::page_size>());
    }
    const auto read = chunk(*number);
    if (!read) {
        return fail(read.error());
    }
    const auto run =
        std::ranges::find_if(**read, [page](const Run& each) { return each.pages.contains(page); });
    formats::invariant(run != (*read)->end(), "a chunk has the pages of the page map");
    if (run->bytes.empty()) {
        return !formats::is_zero_page(bytes.first<formats::page_size>());
    }
    return !std::ranges::equal(bytes, page_of(run->bytes, page - run->pages.first()));
}

Status ImageDifference::for_each_run(
    PageRange pages, std::span<const std::byte> bytes, const TakePages& take) {
    PageCount begin;
    bool inside = false;
    const auto end_run = [&](PageCount end) {
        const auto length = formats::bytes_of(end - begin).value();
        return take(
            pages.part(begin, end), bytes.subspan(formats::bytes_of(begin).value(), length));
    };
    for (PageCount at; at < pages.count(); at += PageCount{1}) {
        const auto differing = differs(pages.first() + at, page_of(bytes, at));
        if (!differing) {
            return fail(differing.error());
        }
        if (*differing == inside) {
            continue;
        }
        if (inside) {
            if (auto taken = end_run(at); !taken) {
                return taken;
            }
        }
        begin = at;
        inside = *differing;
    }
    return inside ? end_run(pages.count()) : Status{};
}

Result<ComparedImages> compare_images(ImageChain& one, ImageChain& other) {
    const Plan& plan = one.image().description().plan;
    if (plan.regions != other.image().description().plan.regions) {
        return fail(ErrorCode::invalid_argument, "the images tell of different RAM");
    }
    for (const ImageChain* each : {&one, &other}) {
        if (each->image().description().extent != ImageExtent::whole) {
            return fail(ErrorCode::invalid_argument, each->name() + " is not of a whole guest");
        }
    }
    const auto first = one.image().machine_state();
    const auto second = other.image().machine_state();
    if (!first || !second) {
        return fail(first ? second.error() : first.error());
    }
    ComparedImages found{
        .pages = no_pages_of(plan),
        .of = formats::pages_for(plan.config.memory),
        .has_same_state = *first == *second};
    auto difference = ImageDifference::from(one);
    if (!difference) {
        return fail(std::move(difference).error());
    }
    auto left = no_pages_of(plan); // that only the first one has
    const auto map = one.page_map();
    if (!map) {
        return fail(map.error());
    }
    for (const auto& entry : (*map)->entries()) {
        left.mark(entry.pages);
    }
    const TakePages mark = [&found](PageRange run, std::span<const std::byte>) {
        found.pages.mark(run);
        return Status{};
    };
    auto done = other.for_each_run([&](PageRange pages, std::span<const std::byte> bytes) {
        left.unmark(pages);
        return difference->for_each_run(pages, bytes, mark);
    });
    const std::vector<std::byte> zeros(formats::bytes_of(pages_per_step).value());
    left.for_each_run(pages_per_step, [&](PageRange run) {
        if (done) {
            const auto length = formats::bytes_of(run.count()).value();
            done = difference->for_each_run(run, std::span{zeros}.first(length), mark);
        }
    });
    return done ? Result<ComparedImages>{std::move(found)} : fail(std::move(done).error());
}

} // namespace wherry::migrate
