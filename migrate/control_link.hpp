// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/control_inbox.hpp"
#include "migrate/ownership/event.hpp"
#include "migrate/session_channel.hpp"
#include "transport/task_group.hpp"

#include <functional>
#include <memory>
#include <string>

namespace wherry::migrate {

/// The control channel of one side: the first, and after a loss the next one. One thread.
class ControlLink {
public:
    struct Callbacks {
        ControlInbox::OnWord on_word;
        /// What with_peer_trouble() adds is another. May be empty.
        std::function<void()> on_peer_trouble;
        ControlInbox::OnMissing on_missing;
        ControlInbox::OnPlaced on_placed; ///< empty: there is no such message
        /// Once for each channel that breaks by itself, with why.
        std::function<void(const formats::Error&)> on_lost;
        /// Once for each that the peer ends in order. May be empty.
        std::function<void()> on_ended{};
    };
    ControlLink(formats::Side us, transport::Executor executor, Callbacks callbacks);
    ControlLink(const ControlLink&) = delete;
    ControlLink& operator=(const ControlLink&) = delete;

    /// Listens on it and keeps it alive from now on. The one before ends first.
    transport::Task<void> adopt(std::unique_ptr<SessionChannel> channel);
    /// Whether there is one that has not ended.
    [[nodiscard]] bool is_up() const noexcept { return current_ && !current_->is_lost; }
    /// Once there was one.
    [[nodiscard]] bool has_channel() const noexcept { return current_ != nullptr; }
    [[nodiscard]] SessionChannel& channel() { return *current_->channel; }
    [[nodiscard]] ControlInbox& inbox() { return current_->inbox; }
    /// From now on words of the hand-over are due, on this channel and those to come; before, they
    /// are out of turn.
    void hear_words();
    /// What keeps this side from getting on, for the other one's user; on this channel and those to
    /// come. Empty: nothing does.
    void set_trouble(const std::string& trouble);
    /// A sentence with what keeps the peer from getting on, if it has said so on this channel.
    [[nodiscard]] std::string with_peer_trouble(std::string sentence) const;
    /// Where it is down: nothing.
    transport::Task<void> say(const Control& message);

    /// Where `ended` is a lost connection, the peer may have said why, in bytes that have arrived
    /// but are not read yet: its words take the place of ours. Waits for them up to `limit`.
    transport::Task<void> hear_last_words(formats::Status& ended, Duration limit);
    /// Stops listening; the channel stays for a farewell. Nothing is reported as lost any more.
    transport::Task<void> rest();
    /// Ends the channel at once, as if it had been lost; that is not reported.
    void drop();

private:
    struct Connection {
        Connection(
            std::unique_ptr<SessionChannel> with,
            formats::Side us,
            const transport::Executor& executor)
            : channel{std::move(with)},
              inbox{*channel, us, executor},
              helpers{executor} {}
        std::unique_ptr<SessionChannel> channel;
        ControlInbox inbox;
        transport::TaskGroup helpers; ///< listen and keep alive
        bool is_lost = false;
    };
    void hear_peer_trouble(std::string trouble);
    void report(Connection& connection, const formats::Status& ended);

    formats::Side us_;
    transport::Executor executor_;
    Callbacks callbacks_;
    std::unique_ptr<Connection> current_;
    bool hears_words_ = false;
    std::string trouble_;
    std::string peer_trouble_; ///< fit to be shown
};

} // namespace wherry::migrate
