// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/missing_pages_message.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using formats::Status;
using transport::Task;

namespace {

constexpr std::uint64_t pages_per_word = 64;
/// Of guest memory in one page set: 128 MiB, so that a few missing pages of a large VM are told in
/// a few kilobytes.
constexpr PageCount stretch{std::uint64_t{1} << 15U};
static_assert(stretch <= formats::pages_per_set && stretch.value() % pages_per_word == 0);

Task<void>
send_set(SessionChannel& channel, PageRange pages, std::span<const std::uint64_t> words) {
    const auto payload = formats::encode_page_set(pages, words);
    const std::span<const std::byte> part = payload;
    const auto digest = formats::digest_of(part);
    auto sent =
        co_await channel.send(formats::FrameType::page_set, transport::Gather(&part, 1), digest);
    co_return sent;
}

} // namespace

Task<void> send_missing(SessionChannel& channel, const dirtylog::DirtySet& missing) {
    for (const dirtylog::PageBitmap& bitmap : missing.bitmaps()) {
        const PageRange all = bitmap.pages();
        for (PageCount at; at < all.count(); at += stretch) {
            const PageRange pages = all.part(at, std::min(at + stretch, all.count()));
            const auto words = bitmap.words().subspan(
                static_cast<std::size_t>(at.value() / pages_per_word),
                static_cast<std::size_t>(
                    (pages.count().value() + pages_per_word - 1) / pages_per_word));
            if (std::ranges::all_of(words, [](std::uint64_t word) { return word == 0; })) {
                continue;
            }
            auto sent = co_await send_set(channel, pages, words);
            if (!sent) {
                co_return sent;
            }
        }
    }
    Control message;
    message.mutable_missing_end()->set_pages(missing.count().value());
    co_return co_await channel.send(message);
}

Status MissingPagesReader::add(const formats::PageSet& set) {
    const auto bitmaps = missing_.bitmaps();
    const auto bitmap = std::ranges::find_if(bitmaps, [&](const dirtylog::PageBitmap& each) {
        return each.pages().contains(set.pages);
    });
    if (bitmap == bitmaps.end() || set.pages.first() < next_) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "a page set from {:#x} on is out of order or no RAM of this VM",
                formats::gpa_of(set.pages.first()).value()));
    }
    next_ = set.pages.end();
    bitmap->merge_words(set.pages, set.words);
    return {};
}

formats::Result<dirtylog::DirtySet>
MissingPagesReader::finish(const formats::proto::MissingEnd& end) {
    dirtylog::DirtySet complete = missing_;
    missing_.clear();
    next_ = Gfn{0};
    if (complete.count().value() != end.pages()) {
        return formats::fail(
            ErrorCode::corrupted,
            fmt::format(
                "{} missing pages were named and {} counted",
                complete.count().value(),
                end.pages()));
    }
    return complete;
}

} // namespace wherry::migrate
