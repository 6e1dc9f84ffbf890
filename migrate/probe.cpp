// SPDX-License-Identifier: Apache-2.0
// The source's half; the destination's is in probe_desk.cpp.
#include "migrate/probe.hpp"

#include "transport/rate_limiter.hpp"

#include <random>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::Status;
using transport::Task;
using Clock = std::chrono::steady_clock;

/// What nothing on the way can compress.
std::vector<std::byte> incompressible(Bytes size) {
    std::vector<std::byte> bytes(size.value());
    std::mt19937_64 random{size.value()};
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(random());
    }
    return bytes;
}

} // namespace

Probe::Probe(const transport::Executor& executor, ProbeOptions options)
    : executor_{executor},
      options_{std::move(options)} {
    options_.name.role = ChannelRole::probe;
}

Task<ProbeOutcome> Probe::run() {
    const auto begun = Clock::now();
    auto stream = co_await options_.connect(ChannelRole::probe, 0);
    if (!stream) {
        auto error = std::move(stream).error();
        if (error.code() == ErrorCode::unreachable) {
            co_return formats::fail(
                error.code(),
                error.text() + "; start `wherry receive` there, or estimate without --to");
        }
        co_return formats::fail(std::move(error));
    }
    channel_ = std::make_unique<SessionChannel>(
        *std::move(stream), formats::Side::source, options_.policy.silence);
    outcome_.peer = channel_->peer();
    outcome_.connecting = Clock::now() - begun;
    auto step = co_await ask();
    if (step) {
        outcome_.planning = Clock::now() - begun - outcome_.connecting;
        step = co_await measure();
    }
    if (!step) {
        auto error = co_await explain(std::move(step).error());
        channel_->close();
        co_return formats::fail(*std::move(error));
    }
    // All has been heard: an end out of order changes nothing.
    auto ended = co_await channel_->finish(options_.policy.farewell_limit());
    (void)ended;
    co_return std::move(outcome_);
}

void Probe::hurry() {
    if (channel_) {
        channel_->hurry(options_.policy.farewell_limit());
    }
}

Task<void> Probe::ask() {
    auto opened = co_await channel_->open_as_source(options_.name);
    if (!opened) {
        // An older one says that there is no such role, and a garbled hello is not ours.
        const bool is_older = opened.error().code() == ErrorCode::protocol &&
                              opened.error().side() == formats::Side::destination;
        co_return is_older ? Status{formats::fail(
                                 ErrorCode::unsupported,
                                 fmt::format(
                                     "the wherry at {} is older and cannot be asked before a "
                                     "migration: upgrade it, or estimate without --to",
                                     channel_->peer()))}
                           : opened;
    }
    outcome_.round_trip = channel_->round_trip();
    Control message;
    to_proto(options_.plan, *message.mutable_plan());
    message.mutable_plan()->set_bulk_channels(options_.policy.bulk_channels());
    auto sent = co_await channel_->send(message);
    if (!sent) {
        co_return sent;
    }
    auto answer = co_await expect(Control::kPlanAnswer, options_.policy.plan_deadline);
    if (!answer) {
        co_return formats::fail(std::move(answer).error());
    }
    outcome_.verdict = from_proto(answer->plan_answer());
    if (options_.on_verdict) {
        options_.on_verdict(outcome_.verdict);
    }
    co_return Status{};
}

/// By one task alone: what the destination says meanwhile waits until it is wanted, which is as
/// soon as there is no room, and so all the time once the link is full.
Task<void> Probe::measure() {
    LinkMeasurement measurement{Clock::now(), options_.policy.bandwidth};
    transport::RateLimiter limit{executor_};
    limit.set_rate(options_.policy.bandwidth);
    load_ = incompressible(formats::payload_limit(formats::FrameType::probe));
    auto piece = measurement.next_piece(Clock::now());
    while (piece > Bytes{0} || !measurement.is_all_counted()) {
        if (piece == Bytes{0} || !measurement.has_room(piece)) {
            auto heard = co_await hear(measurement);
            if (!heard) {
                co_return heard;
            }
        } else {
            auto sent = co_await limit.take(piece);
            if (sent) {
                measurement.sent(piece);
                sent = co_await send(piece);
            }
            if (!sent) {
                co_return sent;
            }
        }
        piece = measurement.next_piece(Clock::now());
    }
    Control message;
    message.mutable_probe_end();
    auto told = co_await channel_->send(message);
    if (!told) {
        co_return told;
    }
    outcome_.rate = measurement.rate();
    outcome_.sent = measurement.arrived();
    outcome_.measuring = measurement.took();
    co_return Status{};
}

Task<void> Probe::send(Bytes piece) {
    const std::span<const std::byte> part = std::span{load_}.first(piece.value());
    const auto digest = formats::digest_of(part);
    co_return co_await channel_->send(
        formats::FrameType::probe, transport::Gather(&part, 1), digest);
}

Task<void> Probe::hear(LinkMeasurement& measurement) {
    auto said = co_await expect(Control::kProbed, options_.policy.silence);
    if (!said) {
        co_return formats::fail(std::move(said).error());
    }
    co_return measurement.counted(Bytes{said->probed().bytes()}, Clock::now());
}

/// Keep-alives alone are no answer.
Task<Control> Probe::expect(Control::MessageCase kind, Duration limit) {
    const auto begun = Clock::now();
    auto said = co_await transport::within(limit, channel_->expect(kind));
    const bool is_late = Clock::now() - begun >= limit;
    if (!said && said.error().code() == ErrorCode::timed_out && is_late) {
        co_return formats::fail(
            ErrorCode::timed_out,
            fmt::format(
                "the destination ({}) has not said {} within {:g} s",
                channel_->peer(),
                name_of(kind),
                std::chrono::duration<double>(limit).count()));
    }
    co_return said;
}

/// Who could not send any more may not have heard why.
Task<formats::Error> Probe::explain(formats::Error error) {
    if (error.code() == ErrorCode::connection_lost && !channel_->peer_has_failed()) {
        auto heard = co_await transport::within(options_.policy.farewell_limit(), hear_out());
        if (!heard && channel_->peer_has_failed()) {
            co_return std::move(heard).error();
        }
    }
    co_return error;
}

Task<void> Probe::hear_out() {
    while (true) {
        auto said = co_await channel_->expect(Control::kProbed);
        if (!said) {
            co_return formats::fail(std::move(said).error());
        }
    }
}

} // namespace wherry::migrate
