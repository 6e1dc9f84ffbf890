// SPDX-License-Identifier: Apache-2.0
#include "migrate/session_channel.hpp"

#include "formats/error_message.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::ErrorCode;
using transport::Task;

std::string_view other_side(formats::Side us) {
    return us == formats::Side::source ? "destination" : "source";
}

} // namespace

std::string_view name_of(Control::MessageCase message) noexcept {
    switch (message) {
    case Control::kHello:
        return "hello";
    case Control::kPlan:
        return "plan";
    case Control::kPlanAnswer:
        return "plan_answer";
    case Control::kRoundEnd:
        return "round_end";
    case Control::kRoundStored:
        return "round_stored";
    case Control::kOffer:
        return "offer";
    case Control::kLoaded:
        return "loaded";
    case Control::kAccept:
        return "accept";
    case Control::kCommit:
        return "commit";
    case Control::kRunning:
        return "running";
    case Control::kError:
        return "error";
    case Control::kKeepAlive:
        return "keep_alive";
    case Control::kPlaced:
        return "placed";
    case Control::kProbed:
        return "probed";
    case Control::kProbeEnd:
        return "probe_end";
    case Control::kMissingEnd:
        return "missing_end";
    case Control::kPageRequest:
        return "page_request";
    case Control::kAsk:
        return "ask";
    case Control::kTookBack:
        return "took_back";
    case Control::kRefused:
        return "refused";
    case Control::kLost:
        return "lost";
    case Control::kComplete:
        return "complete";
    case Control::kPagesLost:
        return "pages_lost";
    case Control::kRejoin:
        return "rejoin";
    case Control::MESSAGE_NOT_SET:
        return "unknown";
    }
    return "unknown";
}

SessionChannel::SessionChannel(
    std::unique_ptr<transport::ByteStream> stream, formats::Side us, Duration silence)
    : stream_{std::move(stream)},
      us_{us},
      silence_{silence},
      keep_alive_every_{silence / 4},
      turn_{stream_->executor()},
      hurry_{stream_->executor()},
      last_sent_{Clock::now()} {}

Task<void> SessionChannel::exchange_preambles() {
    const auto ours = formats::encode_preamble(formats::supported_protocol);
    const std::span<const std::byte> part{ours};
    auto written = co_await write_in_turn(transport::Gather(&part, 1));
    if (!written) {
        co_return written;
    }
    std::array<std::byte, formats::preamble_size> theirs{};
    auto got = co_await bounded(read(theirs));
    if (!got) {
        co_return got;
    }
    auto range = formats::decode_preamble(theirs);
    if (!range) {
        co_return formats::fail(std::move(range).error());
    }
    auto version = formats::agree_on_protocol(formats::supported_protocol, *range);
    if (!version) {
        co_return formats::fail(std::move(version).error());
    }
    has_versions_ = true;
    co_return formats::Status{};
}

Task<void> SessionChannel::send_hello(const ChannelName& name) {
    Control message;
    to_proto(name, us_, silence_, *message.mutable_hello());
    co_return co_await send(message);
}

Task<Hello> SessionChannel::take_hello() {
    auto message = co_await expect(Control::kHello);
    if (!message) {
        co_return formats::fail(std::move(message).error());
    }
    auto hello = from_proto(message->hello());
    if (!hello) {
        co_return formats::fail(std::move(hello).error().during(peer()));
    }
    if (hello->side == us_ || hello->side == formats::Side::local) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("{} is a {} too, not a {}", peer(), name_of(us_), other_side(us_)));
    }
    // A peer without patience gets what is bearable.
    keep_alive_every_ = std::clamp<Duration>(
        hello->patience / 4,
        std::chrono::milliseconds{25},
        std::max(silence_, hello->patience) / 4);
    co_return hello;
}

Task<void> SessionChannel::open_as_source(const ChannelName& name) {
    auto opened = co_await exchange_preambles();
    if (!opened) {
        co_return opened;
    }
    const auto begun = Clock::now();
    auto sent = co_await send_hello(name);
    if (!sent) {
        co_return sent;
    }
    auto hello = co_await take_hello();
    if (!hello) {
        co_return formats::fail(std::move(hello).error());
    }
    round_trip_ = Clock::now() - begun;
    const ChannelName& answer = hello->name;
    if (answer.migration_id != name.migration_id || answer.epoch != name.epoch ||
        answer.role != name.role || answer.index != name.index) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("{} answered for another migration than ours", peer()));
    }
    co_return formats::Status{};
}

Task<ChannelName> SessionChannel::hear_hello() {
    auto opened = co_await exchange_preambles();
    if (!opened) {
        co_return formats::fail(std::move(opened).error());
    }
    auto hello = co_await take_hello();
    if (!hello) {
        co_return formats::fail(std::move(hello).error());
    }
    co_return std::move(hello->name);
}

Task<void> SessionChannel::answer_hello(const ChannelName& heard) {
    ChannelName answer = heard;
    answer.ticket.reset(); // the source's to show, not ours
    co_return co_await send_hello(answer);
}

formats::Status SessionChannel::rebind(const transport::Executor& executor) {
    formats::invariant(!writing_, "a channel moves while nothing is under way");
    turn_ = transport::Notification{executor};
    hurry_ = boost::asio::steady_timer{executor};
    return stream_->rebind(executor);
}

Task<void> SessionChannel::send(const Control& message) {
    const std::string text = message.SerializeAsString();
    const auto payload = std::as_bytes(std::span{text});
    const std::span<const std::byte> part = payload;
    const auto digest = formats::digest_of(payload);
    co_return co_await send(formats::FrameType::control, transport::Gather(&part, 1), digest);
}

Task<void>
SessionChannel::send(formats::FrameType type, transport::Gather payload, formats::Digest digest) {
    formats::FrameHeader header{};
    header.type = type;
    header.payload_digest = digest;
    for (const auto part : payload) {
        header.payload_length += Bytes{part.size()};
    }
    co_return co_await write_frame(header, payload);
}

Task<void> SessionChannel::write_frame(formats::FrameHeader header, transport::Gather payload) {
    while (writing_) {
        auto waited = co_await turn_.wait();
        if (!waited) {
            co_return waited;
        }
    }
    auto alive = co_await transport::check_cancelled();
    if (!alive) {
        co_return alive;
    }
    header.sequence = sending_.next();
    const auto head = formats::encode(header);
    std::array<std::span<const std::byte>, 4> parts;
    formats::invariant(payload.size() < parts.size(), "a frame has at most three parts");
    parts[0] = head;
    std::ranges::copy(payload, parts.begin() + 1);
    co_return co_await write_in_turn(transport::Gather(parts.data(), payload.size() + 1));
}

Task<void> SessionChannel::write_in_turn(transport::Gather parts) {
    if (write_failed_ || peer_has_failed_) {
        co_return formats::fail(
            ErrorCode::connection_lost,
            fmt::format("the {} does not listen any more", other_side(us_)));
    }
    writing_ = true;
    auto bounded = transport::within(silence_, stream_->write_all(parts));
    auto written = co_await transport::shielded(std::move(bounded));
    writing_ = false;
    hurry_.cancel();
    turn_.notify_all();
    last_sent_ = Clock::now();
    if (!written) {
        write_failed_ = true;
        co_return formats::fail(explained(std::move(written).error()));
    }
    for (const auto part : parts) {
        sent_ += Bytes{part.size()};
    }
    co_return written;
}

Task<void> SessionChannel::read(std::span<std::byte> into) {
    auto got = co_await stream_->read_exactly(into);
    if (got) {
        received_ += Bytes{into.size()};
    }
    co_return got;
}

Task<void> SessionChannel::bounded(Task<void> reading) {
    auto done = co_await transport::within(silence_, std::move(reading));
    if (!done) {
        co_return formats::fail(explained(std::move(done).error()));
    }
    co_return done;
}

Task<formats::FrameHeader> SessionChannel::receive() {
    std::array<std::byte, formats::frame_header_size> bytes{};
    auto got = co_await bounded(read(bytes));
    if (!got) {
        co_return formats::fail(std::move(got).error());
    }
    auto header = formats::decode_frame_header(bytes);
    if (!header) {
        co_return header;
    }
    auto accepted = receiving_.accept(*header);
    if (!accepted) {
        co_return formats::fail(std::move(accepted).error());
    }
    digest_.reset();
    co_return header;
}

Task<Control> SessionChannel::take_control(const formats::FrameHeader& header) {
    buffer_.resize(header.payload_length.value());
    if (!buffer_.empty()) {
        auto got = co_await bounded(take_part(buffer_));
        if (!got) {
            co_return formats::fail(std::move(got).error());
        }
    }
    auto checked = finish_payload(header);
    if (!checked) {
        co_return formats::fail(std::move(checked).error());
    }
    Control message;
    if (!message.ParseFromArray(buffer_.data(), static_cast<int>(buffer_.size())) ||
        message.message_case() == Control::MESSAGE_NOT_SET) {
        co_return formats::fail(
            ErrorCode::protocol,
            fmt::format("{} sent a control message that this version does not know", peer()));
    }
    if (message.has_error()) {
        co_return formats::fail(from_peer(message.error()));
    }
    co_return message;
}

Task<void> SessionChannel::take_part(std::span<std::byte> into) {
    auto got = co_await read(into);
    if (got) {
        digest_.update(into);
    }
    co_return got;
}

formats::Status SessionChannel::finish_payload(const formats::FrameHeader& header) {
    return formats::check_payload(header, digest_.value());
}

Task<Control> SessionChannel::expect(Control::MessageCase kind) {
    while (true) {
        auto header = co_await receive();
        if (!header) {
            co_return formats::fail(std::move(header).error());
        }
        if (header->type != formats::FrameType::control) {
            co_return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "{} sent a frame of type {} where {} was due",
                    peer(),
                    static_cast<unsigned>(header->type),
                    name_of(kind)));
        }
        auto message = co_await take_control(*header);
        if (!message) {
            co_return message;
        }
        if (message->message_case() == kind) {
            co_return message;
        }
        if (!message->has_keep_alive()) {
            co_return formats::fail(
                ErrorCode::protocol,
                fmt::format(
                    "{} sent {} where {} was due",
                    peer(),
                    name_of(message->message_case()),
                    name_of(kind)));
        }
    }
}

Task<void> SessionChannel::keep_alive() {
    while (true) {
        auto waited = co_await transport::pause_for(keep_alive_every_);
        if (!waited) {
            co_return waited;
        }
        if (writing_ || Clock::now() - last_sent_ < keep_alive_every_ / 2) {
            continue;
        }
        auto sent = co_await say_alive();
        if (!sent) {
            co_return sent;
        }
    }
}

Task<void> SessionChannel::say_alive() {
    Control message;
    message.mutable_keep_alive()->set_trouble(formats::sanitised(trouble_));
    co_return co_await send(message);
}

Task<void> SessionChannel::say_farewell(const formats::Error& error) {
    while (writing_) {
        auto waited = co_await turn_.wait();
        if (!waited) {
            co_return waited;
        }
    }
    if (has_versions_ && !peer_has_failed_ && !write_failed_) {
        Control message;
        formats::to_proto(error, us_, *message.mutable_error());
        auto told = co_await send(message);
        if (!told) {
            co_return told;
        }
    }
    co_return co_await stream_->shut_down();
}

Task<void> SessionChannel::fail(const formats::Error& error, Duration limit) {
    auto told = co_await transport::within(limit, say_farewell(error));
    stream_->close();
    co_return told;
}

Task<void> SessionChannel::finish(Duration limit) {
    auto ended = co_await transport::within(limit, stream_->shut_down());
    stream_->close();
    co_return ended;
}

void SessionChannel::hurry(Duration limit) {
    if (!writing_) {
        return;
    }
    hurry_.expires_after(limit);
    hurry_.async_wait([this](const boost::system::error_code& error) {
        // With an error the timer, and so this object, may be gone.
        if (!error && writing_) {
            stream_->close();
        }
    });
}

void SessionChannel::close() {
    stream_->close();
}

formats::Error SessionChannel::from_peer(const formats::proto::Error& message) {
    peer_has_failed_ = true;
    auto said = formats::from_proto(message).error;
    if (said.code() == ErrorCode::cancelled) {
        return formats::Error{
            ErrorCode::cancelled,
            fmt::format("the migration was cancelled on the {}", other_side(us_))}
            .at(said.phase(), said.side());
    }
    const bool refused = said.phase() == formats::Phase::plan;
    const auto activity = fmt::format("the {} {}", other_side(us_), refused ? "refused" : "failed");
    return std::move(said).during(activity);
}

formats::Error SessionChannel::explained(formats::Error error) const {
    const auto seconds = std::chrono::duration<double>(silence_).count();
    if (error.code() == ErrorCode::timed_out) {
        return formats::Error{
            ErrorCode::timed_out,
            fmt::format("the {} ({}) was silent for {:g} s", other_side(us_), peer(), seconds)};
    }
    if (error.code() == ErrorCode::connection_lost) {
        return std::move(error).during(
            fmt::format("the connection to the {} ({})", other_side(us_), peer()));
    }
    return error;
}

} // namespace wherry::migrate
