// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_digest.hpp"
#include "formats/proto/control.pb.h"
#include "formats/wire_frame.hpp"
#include "migrate/channel_name.hpp"
#include "migrate/policy.hpp"
#include "transport/byte_stream.hpp"
#include "transport/notification.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::migrate {

using Control = formats::proto::Control;

/// "plan_answer": for messages.
std::string_view name_of(Control::MessageCase message) noexcept;

/// Frames over one stream: sequence, lengths and checksums are checked here, and nobody above sees
/// a frame that fails. One thread. Sending may be done by several tasks, receiving by one.
///
/// A frame that has been begun is finished even when the sending task is cancelled, so that the
/// stream stays good for a farewell; hurry() bounds that.
class SessionChannel {
public:
    /// `us` is the side this end is on.
    SessionChannel(
        std::unique_ptr<transport::ByteStream> stream, formats::Side us, Duration silence);
    SessionChannel(const SessionChannel&) = delete;
    SessionChannel& operator=(const SessionChannel&) = delete;

    /// Version and names; the source speaks first. The channel carries frames only after this.
    transport::Task<void> open_as_source(const ChannelName& name);
    /// The destination's half, in two steps: what the peer wants, and that it may have it (else
    /// fail()). The id is as it came, not yet fit to be shown.
    transport::Task<ChannelName> hear_hello();
    transport::Task<void> answer_hello(const ChannelName& heard);

    /// Moves it to another thread. Nothing may be under way.
    formats::Status rebind(const transport::Executor& executor);

    transport::Task<void> send(const Control& message);
    /// A payload of several parts, whose digest the caller has worked out.
    transport::Task<void>
    send(formats::FrameType type, transport::Gather payload, formats::Digest digest);

    /// The header of the next frame; its payload is to be taken by exactly one of the calls below.
    /// timed_out when nothing came for the time of silence.
    transport::Task<formats::FrameHeader> receive();
    /// The payload of a control frame. Fails with the peer's own error where that is what it sent.
    transport::Task<Control> take_control(const formats::FrameHeader& header);
    /// The next bytes of the payload of a frame other than control; the last part is followed by
    /// finish_payload(). Without a limit of time: put the taking of one payload into bounded().
    transport::Task<void> take_part(std::span<std::byte> into);
    /// `reading`, ended with timed_out after the time of silence.
    transport::Task<void> bounded(transport::Task<void> reading);
    [[nodiscard]] formats::Status finish_payload(const formats::FrameHeader& header);
    /// receive() of a control message of one kind; keep-alives are dropped on the way, anything
    /// else is a protocol error.
    transport::Task<Control> expect(Control::MessageCase kind);

    /// Sends something whenever nothing else was sent for a quarter of the peer's patience. Runs
    /// until cancelled or the stream fails.
    transport::Task<void> keep_alive();
    /// One of these now.
    transport::Task<void> say_alive();
    /// What they tell the peer of from now on; empty: nothing is in our way.
    void set_trouble(std::string trouble) { trouble_ = std::move(trouble); }

    /// Tells the peer why it ends, as far as that is possible within `limit`, and closes.
    transport::Task<void> fail(const formats::Error& error, Duration limit);
    /// Ends in order, both sides at the end of their words; within `limit`.
    transport::Task<void> finish(Duration limit);
    /// What is being written has `limit` to finish; then the stream closes.
    void hurry(Duration limit);
    void close();

    [[nodiscard]] std::string peer() const { return stream_->peer(); }
    [[nodiscard]] formats::Bytes sent() const noexcept { return sent_; }
    [[nodiscard]] formats::Bytes received() const noexcept { return received_; }
    /// Between our hello and the peer's: on the source.
    [[nodiscard]] Duration round_trip() const noexcept { return round_trip_; }
    /// The peer said itself why it ended: there is no use in telling it ours.
    [[nodiscard]] bool peer_has_failed() const noexcept { return peer_has_failed_; }

private:
    using Clock = std::chrono::steady_clock;

    transport::Task<void> exchange_preambles();
    transport::Task<void> send_hello(const ChannelName& name);
    transport::Task<Hello> take_hello();
    transport::Task<void> write_frame(formats::FrameHeader header, transport::Gather payload);
    transport::Task<void> write_in_turn(transport::Gather parts);
    transport::Task<void> say_farewell(const formats::Error& error);
    transport::Task<void> read(std::span<std::byte> into);
    formats::Error from_peer(const formats::proto::Error& message);
    /// Puts silence and loss into words that name the peer.
    formats::Error explained(formats::Error error) const;

    std::unique_ptr<transport::ByteStream> stream_;
    formats::Side us_;
    Duration silence_;
    Duration keep_alive_every_;
    formats::FrameSequence sending_;
    formats::FrameSequence receiving_;
    formats::StreamingDigest digest_; ///< of the payload being received
    std::vector<std::byte> buffer_;   ///< payload of a control frame
    transport::Notification turn_;
    boost::asio::steady_timer hurry_;
    bool writing_ = false;
    bool has_versions_ = false; ///< the preambles agree: an Error would be understood
    bool peer_has_failed_ = false;
    bool write_failed_ = false;
    Clock::time_point last_sent_;
    std::string trouble_; ///< ours
    Duration round_trip_{};
    formats::Bytes sent_, received_;
};

} // namespace wherry::migrate
