// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_sender.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::PageCount;
using formats::Status;
using transport::Task;

/// Looked at for one batch at most, so that a desert of zero pages still shows progress.
constexpr PageCount scan_limit{8192};
/// For the destination to place anything of a full window.
constexpr Duration placing_deadline = std::chrono::minutes{2};

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
    : supply_{supply},
      limit_{limit},
      counters_{counters},
      channel_{channel},
      placed_{executor},
      batch_{memory} {}

Status PageSender::fill() {
    PageCount scanned;
    while (scanned < scan_limit) {
        const PageCount wished = batch_.room();
        auto pieces = wished.value() > 0 ? supply_.take(wished) : std::vector<PagePiece>{};
        if (pieces.empty()) {
            is_handed_out_ = wished.value() > 0;
            break;
        }
        PageCount got;
        for (PagePiece& piece : pieces) {
            auto filled = batch_.add(piece);
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
    totals_.untold += batch_.untold();
    if (batch_.is_empty()) {
        counters_.add(PageCount{0}, batch_.untold(), Bytes{0});
        co_return co_await transport::yield_now();
    }
    const formats::Digest digest = batch_.seal();
    const Bytes length = batch_.frame_length();
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
    step = co_await batch_.send(channel_);
    if (!step) {
        co_return step;
    }
    round_digest_.add(digest);
    ++totals_.batches;
    totals_.raw_pages += batch_.raw_pages();
    totals_.zero_pages += batch_.zero_pages();
    totals_.wire_bytes += length;
    counters_.add(batch_.raw_pages(), batch_.zero_pages() + batch_.untold(), length);
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
        batch_.begin(round.number);
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
