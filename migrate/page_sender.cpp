// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_sender.hpp"

#include "transport/task_group.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace wherry::migrate {

namespace {

using formats::PageCount;
using formats::PageRange;
using transport::Task;

/// Copied at once: fits into a core's second-level cache, where the tests and digests find it.
constexpr PageCount chunk_pages{64};
/// Looked at for one batch at most, so that a desert of zero pages still shows progress.
constexpr PageCount scan_limit{8192};

} // namespace

PageSender::PageSender(
    const vmm::GuestMemory& memory,
    SessionChannel& channel,
    Progress& progress,
    transport::RateLimiter& limiter,
    transport::Executor worker)
    : memory_{memory},
      channel_{channel},
      progress_{progress},
      limiter_{limiter},
      worker_{std::move(worker)},
      told_raw_{memory} {
    for (Batch& batch : batches_) {
        batch.raw.resize(formats::bytes_of(formats::raw_pages_per_batch).value());
    }
}

PageSender::Kind PageSender::kind_of(std::span<const std::byte> page, formats::Gfn frame) const {
    if (!formats::is_zero_page(page.first<formats::page_size>())) {
        return Kind::raw;
    }
    return told_raw_.contains(frame) ? Kind::zero : Kind::untold;
}

/// How many of the pages fitted; their copies begin at `copied_at` of batch.raw.
PageCount PageSender::add(Batch& batch, PageRange pages, Kind kind, std::size_t copied_at) {
    if (kind == Kind::untold) {
        batch.untold += pages.count();
        return pages.count();
    }
    if (kind == Kind::zero) {
        const PageCount taken = batch.builder.add_zero(pages);
        if (taken.value() > 0) {
            told_raw_.unmark(pages.part(PageCount{0}, taken));
        }
        return taken;
    }
    const PageCount taken = batch.builder.add_raw(pages);
    if (taken.value() > 0) {
        const auto size = static_cast<std::size_t>(formats::bytes_of(taken).value());
        if (copied_at != batch.used) {
            std::memmove(batch.raw.data() + batch.used, batch.raw.data() + copied_at, size);
        }
        batch.used += size;
        told_raw_.mark(pages.part(PageCount{0}, taken));
    }
    return taken;
}

/// Moves the cursor behind what fitted.
formats::Status PageSender::fill_from(Batch& batch, PageRange chunk) {
    const auto size = static_cast<std::size_t>(formats::bytes_of(chunk.count()).value());
    const std::size_t base = batch.used;
    const auto copies = std::span{batch.raw}.subspan(base, size);
    auto copied = memory_.copy_pages(chunk, copies);
    if (!copied) {
        return copied;
    }
    const std::uint64_t count = chunk.count().value();
    const auto kind_at = [&](std::uint64_t page) {
        return kind_of(
            copies.subspan(page * formats::page_size, formats::page_size),
            chunk.first() + PageCount{page});
    };
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
        // Compaction only ever moves pages down, below those not yet looked at.
        const PageCount taken =
            add(batch,
                chunk.part(PageCount{begin}, PageCount{end}),
                kind,
                base + static_cast<std::size_t>(begin) * formats::page_size);
        cursor_ = chunk.first() + PageCount{begin} + taken;
        if (taken.value() < end - begin) {
            return {};
        }
        begin = end;
        kind = next;
    }
    return {};
}

formats::Status PageSender::fill(Batch& batch) {
    batch.builder.reset(round_);
    batch.used = 0;
    batch.untold = PageCount{0};
    batch.is_last = false;
    PageCount scanned;
    while (batch.builder.raw_room().value() > 0 && scanned < scan_limit) {
        const auto chunk =
            pages_->next_run(cursor_, std::min(chunk_pages, batch.builder.raw_room()));
        if (!chunk) {
            batch.is_last = true;
            break;
        }
        scanned += chunk->count();
        auto filled = fill_from(batch, *chunk);
        if (!filled) {
            return filled;
        }
        if (cursor_ != chunk->end()) {
            break; // the table is full
        }
    }
    if (!batch.builder.is_empty()) {
        batch.head = batch.builder.head();
        batch_digest_.reset();
        batch_digest_.update(batch.head);
        batch_digest_.update(std::span{batch.raw}.first(batch.used));
        batch.digest = batch_digest_.value();
    }
    return {};
}

Task<void> PageSender::prepare(Batch& batch) {
    auto work = [this, &batch] {
        return fill(batch);
    };
    co_return co_await transport::offload(worker_, work);
}

Task<void> PageSender::write(Batch& batch, Pace pace, RoundTotals& totals) {
    const formats::PageCount raw = batch.builder.raw_pages();
    const formats::PageCount zero = batch.builder.zero_pages();
    totals.untold += batch.untold;
    if (batch.builder.is_empty()) {
        progress_.add_pages(raw, zero + batch.untold, formats::Bytes{0});
        co_return co_await transport::check_cancelled();
    }
    const formats::Bytes length =
        batch.builder.payload_length() + formats::Bytes{formats::frame_header_size};
    if (pace == Pace::limited) {
        const auto begun = std::chrono::steady_clock::now();
        auto allowed = co_await limiter_.take(length);
        if (!allowed) {
            co_return allowed;
        }
        totals.waited += std::chrono::steady_clock::now() - begun;
    }
    const std::array<std::span<const std::byte>, 2> parts{
        batch.head, std::span<const std::byte>{batch.raw}.first(batch.used)};
    auto sent = co_await channel_.send(
        formats::FrameType::page_batch, transport::Gather(parts), batch.digest);
    if (!sent) {
        co_return sent;
    }
    round_digest_.add(batch.digest);
    ++totals.batches;
    totals.raw_pages += raw;
    totals.zero_pages += zero;
    totals.wire_bytes += length;
    progress_.add_pages(raw, zero + batch.untold, length);
    co_return sent;
}

Task<RoundTotals>
PageSender::send(std::uint32_t round, const dirtylog::DirtySet& pages, Pace pace) {
    auto executor = co_await boost::asio::this_coro::executor;
    pages_ = &pages;
    cursor_ = formats::Gfn{0};
    round_ = round;
    round_digest_.reset();
    RoundTotals totals;
    std::size_t current = 0;
    auto prepared = co_await prepare(batches_[current]);
    while (prepared) {
        Batch& batch = batches_[current];
        Batch& next = batches_[1 - current];
        // join() waits for the worker even when this task is cancelled.
        transport::TaskGroup ahead{executor};
        if (!batch.is_last) {
            ahead.start(prepare(next));
        }
        auto written = co_await write(batch, pace, totals);
        prepared = co_await ahead.join();
        if (!written) {
            co_return formats::fail(std::move(written).error());
        }
        if (batch.is_last) {
            totals.digest = round_digest_.value();
            co_return totals;
        }
        current = 1 - current;
    }
    co_return formats::fail(std::move(prepared).error());
}

} // namespace wherry::migrate
