// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_sender.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::PageCount;
using formats::PageRange;
using formats::Status;
using transport::Task;

/// Looked at for one batch at most, so that a desert of zero pages still shows progress.
constexpr PageCount scan_limit{8192};
/// For the destination to place anything of a full window.
constexpr Duration placing_deadline = std::chrono::minutes{2};

/// The pages [begin, end) of a piece, as bits.
std::uint64_t bits_of(std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t ones =
        end - begin == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (end - begin)) - 1;
    return ones << begin;
}

} // namespace

RoundTotals& RoundTotals::operator+=(const RoundTotals& other) noexcept {
    batches += other.batches;
    raw_pages += other.raw_pages;
    zero_pages += other.zero_pages;
    untold += other.untold;
    wire_bytes += other.wire_bytes;
    waited += other.waited;
    return *this;
}

PageSender::PageSender(
    const vmm::GuestMemory& memory,
    PageSupply& supply,
    BandwidthLimit& limit,
    PageCounters& counters,
    SessionChannel& channel,
    const transport::Executor& executor)
    : memory_{memory},
      supply_{supply},
      limit_{limit},
      counters_{counters},
      channel_{channel},
      placed_{executor},
      raw_(formats::bytes_of(formats::raw_pages_per_batch).value()) {}

/// Pages of one kind, whose copies begin at `copied_at` of raw_. All of a piece fit: fill() takes
/// no more than there is room for.
PageCount PageSender::add(PageRange pages, Kind kind, std::size_t copied_at) {
    if (kind == Kind::untold) {
        untold_ += pages.count();
        return pages.count();
    }
    if (kind == Kind::zero) {
        return builder_.add_zero(pages);
    }
    const auto size = static_cast<std::size_t>(formats::bytes_of(pages.count()).value());
    if (copied_at != used_) {
        // Only ever down, below what has not been looked at yet.
        std::memmove(raw_.data() + used_, raw_.data() + copied_at, size);
    }
    used_ += size;
    return builder_.add_raw(pages);
}

Status PageSender::fill_from(PagePiece& piece) {
    const std::uint64_t count = piece.pages.count().value();
    const std::size_t base = used_;
    const auto copies = std::span{raw_}.subspan(
        base, static_cast<std::size_t>(formats::bytes_of(piece.pages.count()).value()));
    auto copied = memory_.copy_pages(piece.pages, copies);
    if (!copied) {
        return copied;
    }
    const auto kind_at = [&](std::uint64_t page) {
        const auto copy = copies.subspan(page * formats::page_size).first<formats::page_size>();
        if (!formats::is_zero_page(copy)) {
            return Kind::raw;
        }
        return (piece.told_raw >> page & 1U) != 0 ? Kind::zero : Kind::untold;
    };
    std::uint64_t raw_bits = 0;
    std::uint64_t begin = 0;
    Kind kind = kind_at(0);
    while (begin < count) {
        std::uint64_t end = begin + 1;
        Kind next = kind;
        while (end < count) {
            next = kind_at(end);
            if (next != kind) {
                break;
            }
            ++end;
        }
        const PageRange pages = piece.pages.part(PageCount{begin}, PageCount{end});
        const PageCount taken = add(pages, kind, base + begin * formats::page_size);
        formats::invariant(taken == pages.count(), "a batch has room for the pages taken for it");
        raw_bits |= kind == Kind::raw ? bits_of(begin, end) : 0;
        begin = end;
        kind = next;
    }
    piece.told_raw = raw_bits;
    return {};
}

Status PageSender::fill() {
    used_ = 0;
    untold_ = PageCount{0};
    PageCount scanned;
    while (builder_.raw_room().value() > 0 && scanned < scan_limit) {
        // Each page may become a run of its own.
        const PageCount runs_left{formats::runs_per_batch - builder_.runs().size()};
        const PageCount wished = std::min(builder_.raw_room(), runs_left);
        auto pieces = supply_.take(wished);
        if (pieces.empty()) {
            is_handed_out_ = wished.value() > 0;
            break;
        }
        PageCount got;
        for (PagePiece& piece : pieces) {
            auto filled = fill_from(piece);
            if (!filled) {
                return filled;
            }
            got += piece.pages.count();
        }
        supply_.settle(pieces);
        scanned += got;
        if (got < wished) {
            break; // towards the end of a round: the others want their share
        }
    }
    return {};
}

void PageSender::placed(Bytes sum) {
    auto plausible = window_.placed(sum);
    if (!plausible && !false_word_) {
        false_word_ = std::move(plausible).error();
    }
    placed_.notify_all();
}

Task<void> PageSender::wait_for_window(Bytes length) {
    while (!window_.has_room(length) && !false_word_) {
        auto waited = co_await placed_.wait(placing_deadline);
        if (!waited) {
            if (waited.error().code() == formats::ErrorCode::timed_out) {
                co_return formats::fail(
                    formats::ErrorCode::timed_out,
                    fmt::format(
                        "the destination is there but has placed no page of the last {} bytes for "
                        "two minutes",
                        window_.in_flight().value()));
            }
            co_return waited;
        }
    }
    if (false_word_) {
        co_return formats::fail(*false_word_);
    }
    co_return Status{};
}

Task<void> PageSender::write(Pace pace) {
    totals_.untold += untold_;
    if (builder_.is_empty()) {
        counters_.add(PageCount{0}, untold_, Bytes{0});
        co_return co_await transport::yield_now();
    }
    const auto head = builder_.head();
    const std::array<std::span<const std::byte>, 2> parts{
        head, std::span<const std::byte>{raw_}.first(used_)};
    digest_.reset();
    digest_.update(parts[0]);
    digest_.update(parts[1]);
    const formats::Digest digest = digest_.value();
    const Bytes length = builder_.payload_length() + Bytes{formats::frame_header_size};
    auto step = co_await wait_for_window(length);
    if (step && pace == Pace::limited) {
        const auto begun = std::chrono::steady_clock::now();
        step = co_await limit_.take(length);
        totals_.waited += std::chrono::steady_clock::now() - begun;
    }
    if (!step) {
        co_return step;
    }
    // Before it goes out: the other thread may hear of its arrival before we go on.
    window_.sent(length);
    step = co_await channel_.send(formats::FrameType::page_batch, transport::Gather(parts), digest);
    if (!step) {
        co_return step;
    }
    round_digest_.add(digest);
    ++totals_.batches;
    totals_.raw_pages += builder_.raw_pages();
    totals_.zero_pages += builder_.zero_pages();
    totals_.wire_bytes += length;
    counters_.add(builder_.raw_pages(), builder_.zero_pages() + untold_, length);
    co_return step;
}

Task<void> PageSender::mark_end(RoundPlan round) {
    totals_.digest = round_digest_.value();
    Control message;
    auto& end = *message.mutable_round_end();
    end.set_round(round.number);
    end.set_batches(totals_.batches);
    end.set_raw_pages(totals_.raw_pages.value());
    end.set_zero_pages(totals_.zero_pages.value());
    end.set_digest(static_cast<std::uint64_t>(totals_.digest));
    end.set_is_last(round.is_last);
    co_return co_await channel_.send(message);
}

Task<RoundTotals> PageSender::send(RoundPlan round) {
    totals_ = {};
    round_digest_.reset();
    is_handed_out_ = false;
    while (!is_handed_out_) {
        builder_.reset(round.number);
        auto step = fill();
        if (!step) {
            co_return formats::fail(std::move(step).error());
        }
        step = co_await write(round.pace);
        if (!step) {
            co_return formats::fail(std::move(step).error());
        }
    }
    auto marked = co_await mark_end(round);
    if (!marked) {
        co_return formats::fail(std::move(marked).error());
    }
    co_return totals_;
}

} // namespace wherry::migrate
