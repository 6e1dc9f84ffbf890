// SPDX-License-Identifier: Apache-2.0
#include "migrate/control_inbox.hpp"

#include "formats/error_message.hpp"
#include "migrate/ownership/words.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using transport::Task;

/// No peer that keeps to the protocol has more to say without being answered.
constexpr std::size_t messages_limit = 8;

} // namespace

ControlInbox::ControlInbox(
    SessionChannel& channel, formats::Side us, const transport::Executor& executor)
    : channel_{channel},
      us_{us},
      changed_{executor} {}

Task<void> ControlInbox::receive_one() {
    auto header = co_await channel_.receive();
    if (!header) {
        co_return formats::fail(std::move(header).error());
    }
    if (header->type == formats::FrameType::machine_state && us_ == formats::Side::destination) {
        co_return co_await receive_state(*header);
    }
    if (header->type == formats::FrameType::page_set && missing_) {
        co_return co_await receive_page_set(*header);
    }
    if (header->type != formats::FrameType::control) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "{} sent a frame of type {} on the control channel",
                channel_.peer(),
                static_cast<unsigned>(header->type)));
    }
    auto message = co_await channel_.take_control(*header);
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    co_return keep(*std::move(message));
}

Task<void> ControlInbox::receive_state(const formats::FrameHeader& header) {
    if (!pages_are_due_) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("{} sent the state of the VM when it was not due", channel_.peer()));
    }
    // Bounded by payload_limit of its frame.
    std::vector<std::byte> bytes(header.payload_length.value());
    auto taken = co_await channel_.bounded(channel_.take_part(bytes));
    if (!taken) {
        co_return taken;
    }
    taken = channel_.finish_payload(header);
    if (taken) {
        pages_are_due_ = false;
        state_ = std::move(bytes);
        changed_.notify_all();
    }
    co_return taken;
}

Task<void> ControlInbox::receive_page_set(const formats::FrameHeader& header) {
    // Bounded by payload_limit of its frame.
    std::vector<std::byte> bytes(header.payload_length.value());
    auto taken = co_await channel_.bounded(channel_.take_part(bytes));
    if (taken) {
        taken = channel_.finish_payload(header);
    }
    if (!taken) {
        co_return taken;
    }
    auto set = formats::decode_page_set(bytes);
    if (!set) {
        co_return formats::fail(std::move(set).error());
    }
    co_return missing_->add(*set);
}

formats::Status ControlInbox::end_missing(const formats::proto::MissingEnd& end) {
    auto missing = missing_->finish(end);
    if (!missing) {
        return formats::fail(std::move(missing).error());
    }
    on_missing_(*std::move(missing));
    return {};
}

formats::Status ControlInbox::keep(Control message) {
    if (message.has_keep_alive()) {
        if (on_trouble_) {
            on_trouble_(formats::sanitised(message.keep_alive().trouble()));
        }
        return {};
    }
    if (const auto word = word_in(message); word && on_word_) {
        on_word_(*word, message);
        return {};
    }
    if (message.has_missing_end() && missing_ && on_missing_) {
        return end_missing(message.missing_end());
    }
    if (message.has_placed() && on_placed_) {
        on_placed_(message.placed());
        return {};
    }
    if (pages_are_due_) {
        return out_of_turn(message);
    }
    if (messages_.size() == messages_limit) {
        return formats::fail(
            ErrorCode::protocol, fmt::format("{} speaks without being asked", channel_.peer()));
    }
    messages_.push_back(std::move(message));
    changed_.notify_all();
    return {};
}

formats::Status ControlInbox::out_of_turn(const Control& message) const {
    return formats::fail(
        ErrorCode::protocol,
        fmt::format(
            "{} sent {} while pages were due", channel_.peer(), name_of(message.message_case())));
}

formats::Status ControlInbox::only_pages_are_due() {
    pages_are_due_ = true;
    return messages_.empty() ? formats::Status{} : out_of_turn(messages_.front());
}

Task<void> ControlInbox::listen() {
    formats::Status received;
    while (received) {
        received = co_await receive_one();
    }
    end_ = received.error();
    changed_.notify_all();
    co_return received;
}

Task<Control> ControlInbox::next() {
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

Task<std::vector<std::byte>> ControlInbox::next_state() {
    while (!state_) {
        if (end_) {
            co_return formats::fail(*end_);
        }
        auto waited = co_await changed_.wait();
        if (!waited) {
            co_return formats::fail(std::move(waited).error());
        }
    }
    co_return *std::exchange(state_, std::nullopt);
}

/// Silence of the stream has been put into words already.
formats::Error
ControlInbox::explained(formats::Error error, std::string_view what, Duration limit) {
    if (error.code() != ErrorCode::timed_out || end_) {
        return error;
    }
    return formats::Error{
        ErrorCode::timed_out,
        fmt::format(
            "the {} ({}) is there but did not answer with {} within {:g} s",
            us_ == formats::Side::source ? "destination" : "source",
            channel_.peer(),
            what,
            std::chrono::duration<double>(limit).count())};
}

Task<Control> ControlInbox::expect(Control::MessageCase kind, Duration limit) {
    auto message = co_await transport::within(limit, next());
    if (!message) {
        co_return formats::fail(explained(std::move(message).error(), name_of(kind), limit));
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

Task<std::vector<std::byte>> ControlInbox::expect_state(Duration limit) {
    auto state = co_await transport::within(limit, next_state());
    if (!state) {
        co_return formats::fail(explained(std::move(state).error(), "the state of the VM", limit));
    }
    co_return state;
}

formats::Status ControlInbox::status() const {
    if (end_) {
        return formats::fail(*end_);
    }
    return {};
}

Task<void> ControlInbox::wait_for_end(Duration limit) {
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
