// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/channel_name.hpp"
#include "migrate/session_channel.hpp"
#include "migrate/ticket.hpp"
#include "transport/connection.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace wherry::migrate {

/// A channel that is open, and what its source says that it is.
struct OpenedChannel {
    ChannelName name;
    std::unique_ptr<SessionChannel> channel;
};

/// One migration's place at the reception: as long as it lives, no other migration is let in. The
/// session's; all on the reception's thread.
class Intake {
    struct Key {};

public:
    struct State; ///< of the reception
    Intake(Key, std::shared_ptr<State> state, OpenedChannel control, Ticket ticket);
    Intake(const Intake&) = delete;
    Intake& operator=(const Intake&) = delete;
    ~Intake();

    /// What the source called it; fit to be shown.
    [[nodiscard]] const ChannelName& name() const noexcept { return name_; }
    /// Who brings it.
    [[nodiscard]] const std::string& peer() const noexcept { return peer_; }
    /// To be told to the source over the control channel and nowhere else.
    [[nodiscard]] const Ticket& ticket() const noexcept { return ticket_; }
    /// The control channel that it began with; once.
    [[nodiscard]] std::unique_ptr<SessionChannel> take_control() { return std::move(control_); }

    /// The next channel of this role that has shown the ticket; or an inquiry about this
    /// migration. timed_out after `limit`.
    transport::Task<OpenedChannel> next_channel(ChannelRole role, Duration limit);

    /// Those that have come and were not fetched: of a connection that has been lost since.
    void forget_waiting();

private:
    friend class Reception;
    /// Shared with the reception and with peers that are being greeted.
    std::shared_ptr<State> state_;
    ChannelName name_;
    Ticket ticket_;
    std::string peer_;
    std::unique_ptr<SessionChannel> control_;
};

struct ReceptionOptions {
    /// Of each channel, while it is greeted and afterwards.
    Duration silence = std::chrono::seconds{10};
    /// From a stream's first byte to the end of its hello.
    Duration hello_deadline = std::chrono::seconds{5};
    /// How long the source of a second migration waits for the first to end before it is refused:
    /// a failed attempt takes a moment to go.
    Duration busy_patience = std::chrono::seconds{2};
    /// Peers that are being greeted; further ones wait in the listener.
    std::size_t greeting_limit = 32;
    /// Hears of each peer that was not let in. Empty: nobody does.
    std::function<void(const formats::Error&)> on_refusal{};
};

/// Where streams come in at a destination. Greets several peers at a time, so that a slow one holds
/// up nobody, and brings each channel to where it belongs: a new migration to whoever waits for
/// one, further channels to the migration whose ticket they show. All others are refused with one
/// sentence. One thread.
class Reception {
public:
    Reception(const transport::Executor& executor, ReceptionOptions options);
    Reception(const Reception&) = delete;
    Reception& operator=(const Reception&) = delete;
    /// As close().
    ~Reception();

    /// Greets whoever connects, until the listener is closed or the task cancelled. A task of its
    /// own; may go on while a migration is under way and after it has ended.
    transport::Task<void> serve(transport::Listener& listener);
    /// Greets one peer; it is shown out at once where greeting_limit are here already.
    void greet(std::unique_ptr<transport::ByteStream> stream);

    /// The next migration. One at a time: when the last Intake is gone.
    transport::Task<std::unique_ptr<Intake>> next_migration();

    /// The next inquiry about a hand-over that has no Intake here: its source, or this side, has
    /// started again, or the migration has ended.
    transport::Task<OpenedChannel> next_inquiry();

    /// The next source that wants to know what would become of a migration. One at a time, and none
    /// while a migration is here: others are refused with a sentence. Who asks for the next one is
    /// done with the last.
    transport::Task<OpenedChannel> next_probe();
    /// Returns once a migration is here, or nobody is let in any more.
    transport::Task<void> migration_is_here();

    /// Refuses each further migration, and probe, with this sentence; inquiries are still let in.
    void turn_away(std::string why);
    /// Lets nobody in any more; who is being greeted is shown out. Idempotent.
    void close();

private:
    std::shared_ptr<Intake::State> state_;
};

} // namespace wherry::migrate
