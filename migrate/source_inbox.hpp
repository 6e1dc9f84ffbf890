// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/session_channel.hpp"
#include "transport/notification.hpp"

#include <deque>
#include <optional>

namespace wherry::migrate {

/// Hears the destination out while the source does something else: an error of the destination is
/// known at once, not when a write fails. One thread.
class SourceInbox {
public:
    SourceInbox(SessionChannel& channel, const transport::Executor& executor);

    /// Receives until the stream ends or fails, or it is cancelled. A task of its own.
    transport::Task<void> listen();

    /// The next message, which must be of this kind. What was received before the stream ended
    /// still counts. timed_out names the message.
    transport::Task<Control> expect(Control::MessageCase kind, Duration limit);
    /// The error that listening ended with, if it has.
    [[nodiscard]] formats::Status status() const;
    /// Waits until listening has ended, for at most `limit`: the peer may have said why a write of
    /// ours failed.
    transport::Task<void> wait_for_end(Duration limit);

private:
    transport::Task<Control> next();
    transport::Task<void> receive_one();

    SessionChannel& channel_;
    std::deque<Control> messages_; ///< bounded by messages_limit
    std::optional<formats::Error> end_;
    transport::Notification changed_;
};

} // namespace wherry::migrate
