// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/ownership/event.hpp"
#include "migrate/postcopy/missing_pages_message.hpp"
#include "migrate/session_channel.hpp"
#include "transport/notification.hpp"

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

namespace wherry::migrate {

/// Hears the peer out on the control channel while this side does something else: an error of the
/// peer is known at once, not when a write fails. One thread.
class ControlInbox {
public:
    using OnPlaced = std::function<void(const formats::proto::Placed&)>;
    using OnWord = std::function<void(const event::Received&, const Control&)>;
    using OnTrouble = std::function<void(std::string)>;
    using OnMissing = std::function<void(dirtylog::DirtySet)>;

    /// `us`: on the destination the state of the machine comes this way too.
    ControlInbox(SessionChannel& channel, formats::Side us, const transport::Executor& executor);

    /// Receives until the stream ends or fails, or it is cancelled. A task of its own.
    transport::Task<void> listen();
    /// Called with each `placed`; without, there is no such message.
    void on_placed(OnPlaced callback) { on_placed_ = std::move(callback); }
    /// Called with each word of the hand-over; these come at any time.
    void on_word(OnWord callback) { on_word_ = std::move(callback); }
    /// Called with what is in the peer's way, as each of its keep-alives says; empty: nothing is.
    void on_trouble(OnTrouble callback) { on_trouble_ = std::move(callback); }
    /// Called with each set of missing pages, which there are once the memory is known.
    void on_missing(OnMissing callback) { on_missing_ = std::move(callback); }
    void missing_pages_are_of(const vmm::GuestMemory& memory) { missing_.emplace(memory); }
    /// Until the machine's state has come, any message is out of its turn; one that is here already
    /// too.
    [[nodiscard]] formats::Status only_pages_are_due();

    /// The next message, which must be of this kind. What was received before the stream ended
    /// still counts. timed_out names the message.
    transport::Task<Control> expect(Control::MessageCase kind, Duration limit);
    /// The encoded state of the machine, once.
    transport::Task<std::vector<std::byte>> expect_state(Duration limit);
    /// The error that listening ended with, if it has.
    [[nodiscard]] formats::Status status() const;
    /// Waits until listening has ended, for at most `limit`: the peer may have said why a write of
    /// ours failed.
    transport::Task<void> wait_for_end(Duration limit);

private:
    transport::Task<Control> next();
    transport::Task<std::vector<std::byte>> next_state();
    transport::Task<void> receive_one();
    transport::Task<void> receive_state(const formats::FrameHeader& header);
    transport::Task<void> receive_page_set(const formats::FrameHeader& header);
    [[nodiscard]] formats::Status end_missing(const formats::proto::MissingEnd& end);
    [[nodiscard]] formats::Status keep(Control message);
    [[nodiscard]] formats::Status out_of_turn(const Control& message) const;
    [[nodiscard]] formats::Error explained(formats::Error error, std::string_view what, Duration);

    SessionChannel& channel_;
    formats::Side us_;
    OnPlaced on_placed_;
    OnWord on_word_;
    OnTrouble on_trouble_;
    OnMissing on_missing_;
    std::optional<MissingPagesReader> missing_;
    bool pages_are_due_ = false;
    std::deque<Control> messages_; ///< bounded by messages_limit
    std::optional<std::vector<std::byte>> state_;
    std::optional<formats::Error> end_;
    transport::Notification changed_;
};

} // namespace wherry::migrate
