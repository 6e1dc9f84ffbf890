// SPDX-License-Identifier: Apache-2.0
#include "migrate/incoming_pages.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::ErrorCode;
using formats::Status;
using transport::Task;

/// One bulk channel and the place where it works.
struct IncomingPages::Lane {
    Lane(ChannelThreads threads, const transport::Executor& session) : place{threads, session} {}

    ChannelPlace place;
    // The place's:
    std::unique_ptr<SessionChannel> channel;
    std::optional<PageReceiver> receiver;
};

/// The session's thread only.
struct IncomingPages::Book {
    Book(std::uint32_t count, const transport::Executor& session)
        : placed(count),
          told(count),
          changed{session} {}

    void end_round(bool last) {
        disagree = disagree || (ended > 0 && last != is_last);
        is_last = last;
        ++ended;
        changed.notify_all();
    }
    void place(std::uint32_t index, Bytes sum) {
        placed[index] = sum;
        changed.notify_all();
    }

    std::vector<Bytes> placed, told; ///< of each channel
    std::uint32_t ended = 0;         ///< channels that have ended the open round
    bool is_last = false;            ///< as they say
    bool disagree = false;           ///< about that
    transport::Notification changed;
};

IncomingPages::IncomingPages(
    vmm::GuestMemory& memory,
    std::uint32_t count,
    const transport::Executor& session,
    ChannelThreads threads)
    : memory_{memory},
      file_{memory},
      session_{session},
      threads_{threads},
      book_{std::make_shared<Book>(count, session)},
      lanes_(count),
      receivers_{session} {}

IncomingPages::~IncomingPages() {
    for (const auto& lane : lanes_) {
        if (lane) {
            lane->place.stop();
        }
    }
}

Status IncomingPages::add(OpenedChannel opened) {
    const std::uint32_t index = opened.name.index;
    if (index >= lanes_.size() || lanes_[index]) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} opened bulk channel {}, which is {}",
                opened.channel->peer(),
                index,
                index < lanes_.size() ? "open" : "more than was agreed on"));
    }
    auto lane = std::make_shared<Lane>(threads_, session_);
    if (threads_ == ChannelThreads::own) {
        auto moved = opened.channel->rebind(lane->place.executor());
        if (!moved) {
            return moved;
        }
    }
    lane->channel = std::move(opened.channel);
    PageReceiver::Callbacks callbacks{
        .on_placed =
            [session = session_, book = book_, index](Bytes sum) {
                boost::asio::post(session, [book, index, sum] { book->place(index, sum); });
            },
        .on_round_end =
            [session = session_, book = book_](std::uint32_t, bool is_last) {
                boost::asio::post(session, [book, is_last] { book->end_round(is_last); });
            }};
    lane->receiver.emplace(
        memory_, placement_, *lane->channel, counters_, open_round_, std::move(callbacks));
    lanes_[index] = std::move(lane);
    return {};
}

void IncomingPages::start(OnFailure on_failure) {
    const auto report = [on_failure = std::move(on_failure)](const Status& ended) {
        if (!ended) {
            on_failure(ended.error());
        }
    };
    for (const auto& lane : lanes_) {
        formats::invariant(lane != nullptr, "all bulk channels are there before they receive");
        receivers_.start_on(lane->place.executor(), lane->receiver->run(), report);
        if (!is_started_) {
            receivers_.start_on(lane->place.executor(), lane->channel->keep_alive());
        }
    }
    is_started_ = true;
}

void IncomingPages::start_push(PagePlacement& placement, OnFailure on_failure) {
    placement_ = &placement;
    if (is_started_) {
        open_next_round();
    }
    start(std::move(on_failure));
}

Task<IncomingPages::RoundEnd> IncomingPages::round_end(Duration patience) {
    Book& book = *book_;
    auto before = counters_.sums();
    while (book.ended < lanes_.size()) {
        auto waited = co_await book.changed.wait(patience);
        const auto now = counters_.sums();
        if (!waited && waited.error().code() != ErrorCode::timed_out) {
            co_return formats::fail(std::move(waited).error());
        }
        if (!waited && now == before) {
            co_return formats::fail(
                ErrorCode::timed_out,
                fmt::format(
                    "the source is there but has sent nothing of the VM for {:g} s",
                    std::chrono::duration<double>(patience).count()));
        }
        before = now;
    }
    if (book.disagree) {
        co_return formats::fail(
            ErrorCode::protocol, "the bulk channels do not agree on which round is the last");
    }
    co_return RoundEnd{open_round_.load(), book.is_last};
}

void IncomingPages::open_next_round() {
    book_->ended = 0;
    open_round_.fetch_add(1);
}

Task<void> IncomingPages::tell_placed(SessionChannel& control) {
    Book& book = *book_;
    while (true) {
        for (std::uint32_t index = 0; index < book.placed.size(); ++index) {
            if (book.placed[index] == book.told[index]) {
                continue;
            }
            book.told[index] = book.placed[index];
            Control message;
            message.mutable_placed()->set_index(index);
            message.mutable_placed()->set_bytes(book.told[index].value());
            auto sent = co_await control.send(message);
            if (!sent) {
                co_return sent;
            }
        }
        if (book.placed != book.told) {
            continue; // more has come while we spoke
        }
        auto waited = co_await book.changed.wait();
        if (!waited) {
            co_return waited;
        }
    }
}

void IncomingPages::close() {
    if (std::exchange(is_closed_, true)) {
        return;
    }
    receivers_.cancel();
    for (const auto& lane : lanes_) {
        if (!lane) {
            continue;
        }
        boost::asio::post(lane->place.executor(), [weak = std::weak_ptr{lane}] {
            if (const auto there = weak.lock()) {
                there->channel->close();
            }
        });
    }
}

Task<void> IncomingPages::settle() {
    // What they ended with has been heard of, or is of no interest any more.
    co_return co_await receivers_.join();
}

} // namespace wherry::migrate
