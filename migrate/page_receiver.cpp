// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_receiver.hpp"

#include "migrate/send_window.hpp"

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
    PageCounters& counters,
    const OpenRound& open_round,
    Callbacks callbacks)
    : memory_{memory},
      channel_{channel},
      counters_{counters},
      open_round_{open_round},
      callbacks_{std::move(callbacks)},
      raw_(formats::bytes_of(formats::raw_pages_per_batch).value()) {}

Status PageReceiver::check_ram() const {
    for (const formats::PageRun& run : runs_) {
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

Status PageReceiver::check_round(std::string_view what, std::uint32_t round) const {
    if (round != round_) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format("{} of round {} came in round {}", what, round, round_));
    }
    if (round != open_round_.load()) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} of round {} came before all of the round before was here", what, round));
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

Status PageReceiver::place() {
    std::span<const std::byte> raw{raw_};
    for (const formats::PageRun& run : runs_) {
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

Task<void> PageReceiver::read_payload(const formats::FrameHeader& header) {
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
    auto in_turn = check_round("a page batch", said->round);
    if (!in_turn) {
        co_return in_turn;
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
    runs_ = *std::move(runs);
    // decode_batch_table has held the raw runs together to raw_pages_per_batch, and their bytes to
    // the rest of the payload.
    const auto size =
        static_cast<std::size_t>(header.payload_length.value()) - head.size() - table_.size();
    if (size > 0) {
        got = co_await channel_.take_part(std::span{raw_}.first(size));
        if (!got) {
            co_return got;
        }
    }
    auto checked = channel_.finish_payload(header);
    if (!checked) {
        co_return checked;
    }
    co_return check_ram();
}

Task<void> PageReceiver::take_batch(const formats::FrameHeader& header) {
    auto taken = co_await channel_.bounded(read_payload(header));
    if (!taken) {
        co_return taken;
    }
    taken = place();
    if (!taken) {
        co_return taken;
    }
    PageCount raw, zero;
    for (const formats::PageRun& run : runs_) {
        (run.encoding == formats::PageEncoding::raw ? raw : zero) += run.pages.count();
    }
    const auto length = header.payload_length + formats::Bytes{formats::frame_header_size};
    ++batch_count_;
    raw_pages_ += raw;
    zero_pages_ += zero;
    round_digest_.add(header.payload_digest);
    counters_.add(raw, zero, length);
    placed_ += length;
    if (placed_ - told_ >= placed_step) {
        told_ = placed_;
        callbacks_.on_placed(placed_);
    }
    co_return taken;
}

Task<void> PageReceiver::take_message(const formats::FrameHeader& header) {
    auto message = co_await channel_.take_control(header);
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    if (message->has_keep_alive()) {
        co_return Status{};
    }
    if (!message->has_round_end()) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} sent {} on a bulk channel", channel_.peer(), name_of(message->message_case())));
    }
    co_return end_round(message->round_end());
}

Status PageReceiver::end_round(const formats::proto::RoundEnd& said) {
    auto in_turn = check_round("the end", said.round());
    if (!in_turn) {
        return in_turn;
    }
    if (said.batches() != batch_count_ || said.raw_pages() != raw_pages_.value() ||
        said.zero_pages() != zero_pages_.value() ||
        said.digest() != static_cast<std::uint64_t>(round_digest_.value())) {
        return formats::fail(
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
    ++round_;
    batch_count_ = 0;
    raw_pages_ = zero_pages_ = PageCount{0};
    round_digest_.reset();
    is_complete_ = said.is_last();
    told_ = placed_;
    callbacks_.on_placed(placed_);
    callbacks_.on_round_end(said.round(), said.is_last());
    return {};
}

Task<void> PageReceiver::run() {
    while (!is_complete_) {
        auto header = co_await channel_.receive();
        if (!header) {
            co_return formats::fail(std::move(header).error());
        }
        Status taken;
        if (header->type == formats::FrameType::page_batch) {
            taken = co_await take_batch(*header);
        } else if (header->type == formats::FrameType::control) {
            taken = co_await take_message(*header);
        } else {
            taken =
                formats::fail(ErrorCode::protocol, "the state of the VM came on a bulk channel");
        }
        if (!taken) {
            co_return taken;
        }
    }
    co_return Status{};
}

} // namespace wherry::migrate
