// SPDX-License-Identifier: Apache-2.0
#include "migrate/page_receiver.hpp"

#include "migrate/send_window.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using formats::PageCount;
using formats::Status;
using transport::Task;

} // namespace

PageReceiver::PageReceiver(
    const vmm::GuestMemory& memory,
    const OpenPlacement& placement,
    SessionChannel& channel,
    PageCounters& counters,
    const OpenRound& open_round,
    Callbacks callbacks)
    : placement_{placement},
      channel_{channel},
      counters_{counters},
      open_round_{open_round},
      callbacks_{std::move(callbacks)},
      batch_{memory} {}

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

Task<void> PageReceiver::take_batch(const formats::FrameHeader& header) {
    auto taken = co_await batch_.read(channel_, header, [this](std::uint32_t round) {
        return check_round("a page batch", round);
    });
    if (taken) {
        taken = batch_.place(*placement_.load());
    }
    if (!taken) {
        co_return taken;
    }
    const auto length = header.payload_length + formats::Bytes{formats::frame_header_size};
    ++batch_count_;
    raw_pages_ += batch_.raw_pages();
    zero_pages_ += batch_.zero_pages();
    round_digest_.add(header.payload_digest);
    counters_.add(batch_.raw_pages(), batch_.zero_pages(), length);
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
    is_complete_ = false;
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
