// SPDX-License-Identifier: Apache-2.0
#include "migrate/source_inbox.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using transport::Task;

/// No peer that keeps to the protocol has more to say without being answered.
constexpr std::size_t messages_limit = 8;

} // namespace

SourceInbox::SourceInbox(SessionChannel& channel, const transport::Executor& executor)
    : channel_{channel},
      changed_{executor} {}

Task<void> SourceInbox::receive_one() {
    auto header = co_await channel_.receive();
    if (!header) {
        co_return formats::fail(std::move(header).error());
    }
    if (header->type != formats::FrameType::control) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} sent a frame of type {}, which is the source's to send",
                channel_.peer(),
                static_cast<unsigned>(header->type)));
    }
    auto message = co_await channel_.take_control(*header);
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    if (message->has_keep_alive()) {
        co_return formats::Status{};
    }
    if (messages_.size() == messages_limit) {
        co_return formats::fail(
            ErrorCode::protocol, fmt::format("{} speaks without being asked", channel_.peer()));
    }
    messages_.push_back(*std::move(message));
    changed_.notify_all();
    co_return formats::Status{};
}

Task<void> SourceInbox::listen() {
    formats::Status received;
    while (received) {
        received = co_await receive_one();
    }
    end_ = received.error();
    changed_.notify_all();
    co_return received;
}

Task<Control> SourceInbox::next() {
    while (messages_.empty()) {
        if (end_) {
            co_return formats::fail(*end_);
        }
        auto waited = co_await changed_.wait();
        if (!waited) {
            co_return formats::fail(std::move(waited).error());
        }
    }
    Control message = std::move(messages_.front());
    messages_.pop_front();
    co_return message;
}

Task<Control> SourceInbox::expect(Control::MessageCase kind, Duration limit) {
    auto message = co_await transport::within(limit, next());
    if (!message) {
        // Silence of the stream has been put into words already.
        if (message.error().code() == ErrorCode::timed_out && !end_) {
            const auto seconds = std::chrono::duration<double>(limit).count();
            co_return formats::fail(
                ErrorCode::timed_out,
                fmt::format(
                    "the destination ({}) is there but did not answer with {} within {:g} s",
                    channel_.peer(),
                    name_of(kind),
                    seconds));
        }
        co_return message;
    }
    if (message->message_case() != kind) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} sent {} where {} was due",
                channel_.peer(),
                name_of(message->message_case()),
                name_of(kind)));
    }
    co_return message;
}

formats::Status SourceInbox::status() const {
    if (end_) {
        return formats::fail(*end_);
    }
    return {};
}

Task<void> SourceInbox::wait_for_end(Duration limit) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!end_) {
        const auto left = until - std::chrono::steady_clock::now();
        if (left <= Duration::zero()) {
            break;
        }
        auto waited = co_await changed_.wait(left);
        if (!waited) {
            co_return waited;
        }
    }
    co_return formats::Status{};
}

} // namespace wherry::migrate
