// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/urgent_pages.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::PageCount;
using formats::PageRange;
using formats::Status;
using transport::Task;

UrgentServer::UrgentServer(
    const vmm::GuestMemory& memory,
    PushOrder& order,
    BandwidthLimit& limit,
    PageCounters& counters,
    SessionChannel& channel)
    : memory_{memory},
      order_{order},
      limit_{limit},
      counters_{counters},
      channel_{channel},
      batch_{memory} {}

Task<void> UrgentServer::run() {
    while (true) {
        auto request = co_await channel_.expect(Control::kPageRequest);
        if (!request) {
            co_return formats::fail(std::move(request).error());
        }
        auto answered = co_await answer(request->page_request());
        if (!answered) {
            co_return answered;
        }
    }
}

Task<void> UrgentServer::answer(const formats::proto::PageRequest& request) {
    if (request.runs().size() > static_cast<int>(runs_per_request)) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("the destination asked for {} runs at once", request.runs().size()));
    }
    batch_.begin(urgent_round);
    for (const auto& run : request.runs()) {
        const auto pages =
            PageRange::make(formats::Gfn{run.first_gfn()}, PageCount{run.page_count()});
        const bool is_ram =
            pages && pages->count() <= pages_per_requested_run &&
            std::ranges::any_of(memory_.regions(), [&](const vmm::MemoryRegion& region) {
                return region.pages.contains(*pages);
            });
        if (!is_ram) {
            co_return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "the destination asked for {} pages from {:#x} on, which this VM does not have",
                    run.page_count(),
                    run.first_gfn()));
        }
        order_.on_fault(*pages);
        auto answered = co_await answer(*pages);
        if (!answered) {
            co_return answered;
        }
    }
    co_return co_await flush();
}

Task<void> UrgentServer::answer(PageRange pages) {
    PageCount at;
    while (at < pages.count()) {
        const PageCount count = std::min({pages_per_piece, pages.count() - at, batch_.room()});
        if (count == PageCount{0}) {
            auto flushed = co_await flush();
            if (!flushed) {
                co_return flushed;
            }
            batch_.begin(urgent_round);
            continue;
        }
        // What is missing there is to be told, zero or not.
        PagePiece piece{.pages = pages.part(at, at + count), .told_raw = ~std::uint64_t{0}};
        auto added = batch_.add(piece);
        if (!added) {
            co_return added;
        }
        at += count;
    }
    co_return Status{};
}

Task<void> UrgentServer::flush() {
    if (batch_.is_empty()) {
        co_return Status{};
    }
    batch_.seal();
    const formats::Bytes length = batch_.frame_length();
    limit_.charge(length);
    auto sent = co_await batch_.send(channel_);
    if (sent) {
        counters_.add(batch_.raw_pages(), batch_.zero_pages(), length);
    }
    co_return sent;
}

UrgentClient::UrgentClient(
    const vmm::GuestMemory& memory,
    FaultQueue& queue,
    PagePlacement& placement,
    PageCounters& counters,
    SessionChannel& channel,
    const transport::Executor& executor)
    : queue_{queue},
      placement_{placement},
      counters_{counters},
      channel_{channel},
      batch_{memory},
      bell_{std::make_shared<Bell>(executor)} {}

void UrgentClient::wake() {
    if (!bell_->is_rung.exchange(true)) {
        boost::asio::post(bell_->executor, [bell = bell_] { bell->news.notify_all(); });
    }
}

Task<void> UrgentClient::ask() {
    while (true) {
        bell_->is_rung = false;
        const auto wanted = queue_.take(runs_per_request);
        if (wanted.empty()) {
            auto waited = co_await bell_->news.wait();
            if (!waited) {
                co_return waited;
            }
            continue;
        }
        Control message;
        auto& request = *message.mutable_page_request();
        for (const PageRange pages : wanted) {
            auto& run = *request.add_runs();
            run.set_first_gfn(pages.first().value());
            run.set_page_count(pages.count().value());
        }
        auto sent = co_await channel_.send(message);
        if (!sent) {
            co_return sent;
        }
    }
}

Task<void> UrgentClient::receive() {
    while (true) {
        auto header = co_await channel_.receive();
        if (!header) {
            co_return formats::fail(std::move(header).error());
        }
        if (header->type == formats::FrameType::control) {
            auto message = co_await channel_.take_control(*header);
            if (!message) {
                co_return formats::fail(std::move(message).error());
            }
            if (!message->has_keep_alive()) {
                co_return formats::fail(
                    ErrorCode::protocol,
                    fmt::format(
                        "{} sent {} on the urgent channel",
                        channel_.peer(),
                        name_of(message->message_case())));
            }
            continue;
        }
        if (header->type != formats::FrameType::page_batch) {
            co_return formats::fail(
                ErrorCode::protocol,
                fmt::format("{} sent no pages on the urgent channel", channel_.peer()));
        }
        const auto in_turn = [](std::uint32_t round) -> Status {
            if (round == urgent_round) {
                return {};
            }
            return formats::fail(
                ErrorCode::protocol, "a page batch of a round came on the urgent channel");
        };
        auto taken = co_await batch_.read(channel_, *header, in_turn);
        if (taken) {
            taken = batch_.place(placement_);
        }
        if (!taken) {
            co_return taken;
        }
        counters_.add(
            batch_.raw_pages(),
            batch_.zero_pages(),
            header->payload_length + formats::Bytes{formats::frame_header_size});
    }
}

} // namespace wherry::migrate
