// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_receiver.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include <unistd.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using formats::PageCount;
using formats::Status;
using transport::Task;

/// A batch smaller than this is placed at once: going to the worker and back takes longer.
constexpr PageCount worth_a_worker{16};

const vmm::MemoryRegion* region_of(const vmm::GuestMemory& memory, formats::PageRange pages) {
    const auto regions = memory.regions();
    const auto found = std::ranges::find_if(
        regions, [&](const vmm::MemoryRegion& region) { return region.pages.contains(pages); });
    return found == regions.end() ? nullptr : &*found;
}

} // namespace

PageReceiver::PageReceiver(
    vmm::GuestMemory& memory,
    SessionChannel& channel,
    Progress& progress,
    transport::Executor worker)
    : memory_{memory},
      channel_{channel},
      progress_{progress},
      worker_{std::move(worker)} {
    for (Batch& batch : batches_) {
        batch.raw.resize(formats::bytes_of(formats::raw_pages_per_batch).value());
    }
    progress_.begin_round(0, formats::Bytes{0});
}

Status PageReceiver::check_ram(const Batch& batch) const {
    for (const formats::PageRun& run : batch.runs) {
        if (region_of(memory_, run.pages) == nullptr) {
            return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "a page batch has pages from {:#x} on that are not RAM of this VM",
                    formats::gpa_of(run.pages.first()).value()));
        }
    }
    return {};
}

Status PageReceiver::place_raw(formats::PageRange pages, std::span<const std::byte> bytes) {
    const vmm::MemoryRegion& region = *region_of(memory_, pages);
    const auto into_region = formats::bytes_of(pages.first() - region.pages.first());
    auto at = static_cast<off_t>((region.file_offset + into_region).value());
    while (!bytes.empty()) {
        const ssize_t written = ::pwrite(memory_.file(), bytes.data(), bytes.size(), at);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return formats::fail(formats::system_error(
                written < 0 ? errno : ENOSPC, "placing pages in the VM's memory"));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
        at += written;
    }
    return {};
}

Status PageReceiver::place(const Batch& batch) {
    std::span<const std::byte> raw{batch.raw};
    for (const formats::PageRun& run : batch.runs) {
        Status placed;
        if (run.encoding == formats::PageEncoding::zero) {
            placed = memory_.zero(run.pages);
        } else {
            const auto size = static_cast<std::size_t>(run.encoded_length.value());
            placed = place_raw(run.pages, raw.first(size));
            raw = raw.subspan(size);
        }
        if (!placed) {
            return placed;
        }
    }
    return {};
}

Task<void> PageReceiver::place_on_worker(const Batch& batch) {
    if (batch.raw_pages < worth_a_worker && batch.runs.size() < worth_a_worker.value()) {
        co_return place(batch);
    }
    auto work = [this, &batch] {
        return place(batch);
    };
    co_return co_await transport::offload(worker_, work);
}

Task<void> PageReceiver::read_payload(const formats::FrameHeader& header, Batch& batch) {
    if (header.payload_length < formats::Bytes{formats::batch_header_size}) {
        co_return formats::fail(ErrorCode::protocol, "a page batch is shorter than its header");
    }
    std::array<std::byte, formats::batch_header_size> head{};
    auto got = co_await channel_.take_part(head);
    if (!got) {
        co_return got;
    }
    auto said = formats::decode_batch_header(head, header.payload_length);
    if (!said) {
        co_return formats::fail(std::move(said).error());
    }
    if (said->round != round_) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("a page batch of round {} came in round {}", said->round, round_));
    }
    table_.resize(formats::table_length(*said).value());
    got = co_await channel_.take_part(table_);
    if (!got) {
        co_return got;
    }
    auto runs = formats::decode_batch_table(*said, table_, header.payload_length);
    if (!runs) {
        co_return formats::fail(std::move(runs).error());
    }
    batch.runs = *std::move(runs);
    batch.raw_pages = batch.zero_pages = PageCount{0};
    for (const formats::PageRun& run : batch.runs) {
        const bool raw = run.encoding == formats::PageEncoding::raw;
        (raw ? batch.raw_pages : batch.zero_pages) += run.pages.count();
    }
    // decode_batch_table has held the raw runs together to raw_pages_per_batch.
    const auto size = static_cast<std::size_t>(formats::bytes_of(batch.raw_pages).value());
    if (size > 0) {
        got = co_await channel_.take_part(std::span{batch.raw}.first(size));
        if (!got) {
            co_return got;
        }
    }
    auto checked = channel_.finish_payload(header);
    if (!checked) {
        co_return checked;
    }
    co_return check_ram(batch);
}

Task<void> PageReceiver::take(const formats::FrameHeader& header) {
    auto executor = co_await boost::asio::this_coro::executor;
    Batch& batch = batches_[current_];
    auto taken = co_await channel_.bounded(read_payload(header, batch));
    if (!taken) {
        co_return taken;
    }
    auto settled = co_await settle();
    if (!settled) {
        co_return settled;
    }
    placing_.emplace(executor);
    placing_->start(place_on_worker(batch));
    current_ = 1 - current_;
    ++batch_count_;
    raw_pages_ += batch.raw_pages;
    zero_pages_ += batch.zero_pages;
    round_digest_.add(header.payload_digest);
    progress_.add_pages(
        batch.raw_pages,
        batch.zero_pages,
        header.payload_length + formats::Bytes{formats::frame_header_size});
    co_return taken;
}

Task<void> PageReceiver::settle() {
    Status placed;
    if (placing_) {
        placed = co_await placing_->join();
        placing_.reset();
    }
    co_return placed;
}

Task<void> PageReceiver::end_round(const formats::proto::RoundEnd& said) {
    auto placed = co_await settle();
    if (!placed) {
        co_return placed;
    }
    if (said.round() != round_) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("the end of round {} came in round {}", said.round(), round_));
    }
    if (said.batches() != batch_count_ || said.raw_pages() != raw_pages_.value() ||
        said.zero_pages() != zero_pages_.value() ||
        said.digest() != static_cast<std::uint64_t>(round_digest_.value())) {
        co_return formats::fail(
            ErrorCode::corrupted,
            fmt::format(
                "round {} arrived as {} batches, {} raw and {} zero pages, and was sent as {}, {} "
                "and {} (or their contents differ)",
                round_,
                batch_count_,
                raw_pages_.value(),
                zero_pages_.value(),
                said.batches(),
                said.raw_pages(),
                said.zero_pages()));
    }
    progress_.end_round();
    ++round_;
    batch_count_ = 0;
    raw_pages_ = zero_pages_ = PageCount{0};
    round_digest_.reset();
    if (!said.is_last()) {
        progress_.begin_round(round_, formats::Bytes{0});
    }
    co_return Status{};
}

} // namespace wherry::migrate
