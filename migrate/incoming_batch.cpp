// SPDX-License-Identifier: Apache-2.0
#include "migrate/incoming_batch.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::PageCount;
using formats::Status;
using transport::Task;

IncomingBatch::IncomingBatch(const vmm::GuestMemory& memory) : memory_{memory} {}

Status IncomingBatch::check_ram() const {
    const auto regions = memory_.regions();
    for (const formats::PageRun& run : runs_) {
        const bool is_ram = std::ranges::any_of(regions, [&](const vmm::MemoryRegion& region) {
            return region.pages.contains(run.pages);
        });
        if (!is_ram) {
            return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "a page batch has pages from {:#x} on that are not RAM of this VM",
                    formats::gpa_of(run.pages.first()).value()));
        }
    }
    return {};
}

Task<void> IncomingBatch::read(
    SessionChannel& channel,
    const formats::FrameHeader& header,
    std::function<Status(std::uint32_t round)> in_turn) {
    co_return co_await channel.bounded(read_payload(channel, header, std::move(in_turn)));
}

Task<void> IncomingBatch::read_payload(
    SessionChannel& channel,
    const formats::FrameHeader& header,
    std::function<Status(std::uint32_t round)> in_turn) {
    if (header.payload_length < formats::Bytes{formats::batch_header_size}) {
        co_return formats::fail(ErrorCode::protocol, "a page batch is shorter than its header");
    }
    std::array<std::byte, formats::batch_header_size> head{};
    auto got = co_await channel.take_part(head);
    if (!got) {
        co_return got;
    }
    auto said = formats::decode_batch_header(head, header.payload_length);
    if (!said) {
        co_return formats::fail(std::move(said).error());
    }
    auto allowed = in_turn(said->round);
    if (!allowed) {
        co_return allowed;
    }
    table_.resize(formats::table_length(*said).value());
    got = co_await channel.take_part(table_);
    if (!got) {
        co_return got;
    }
    auto runs = formats::decode_batch_table(*said, table_, header.payload_length);
    if (!runs) {
        co_return formats::fail(std::move(runs).error());
    }
    runs_ = *std::move(runs);
    raw_pages_ = zero_pages_ = PageCount{0};
    for (const formats::PageRun& run : runs_) {
        const bool is_raw = run.encoding == formats::PageEncoding::raw;
        (is_raw ? raw_pages_ : zero_pages_) += run.pages.count();
    }
    // decode_batch_table has held the raw runs together to raw_pages_per_batch.
    const auto size = static_cast<std::size_t>(formats::bytes_of(raw_pages_).value());
    if (size > 0) {
        got = co_await channel.take_part(raw_.bytes().first(size));
        if (!got) {
            co_return got;
        }
    }
    auto checked = channel.finish_payload(header);
    if (!checked) {
        co_return checked;
    }
    co_return check_ram();
}

Status IncomingBatch::place(PagePlacement& placement) const {
    auto raw = raw_.bytes();
    for (const formats::PageRun& run : runs_) {
        Status placed;
        if (run.encoding == formats::PageEncoding::zero) {
            placed = placement.place_zero(run.pages);
        } else {
            const auto size = static_cast<std::size_t>(run.encoded_length.value());
            placed = placement.place(run.pages, raw.first(size));
            raw = raw.subspan(size);
        }
        if (!placed) {
            return placed;
        }
    }
    return {};
}

} // namespace wherry::migrate
