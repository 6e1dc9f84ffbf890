// SPDX-License-Identifier: Apache-2.0
#include "migrate/policy.hpp"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

namespace wherry::migrate {

formats::Result<OnStall> on_stall_from(std::string_view name) {
    if (name == "abort") {
        return OnStall::abort;
    }
    if (name == "stop") {
        return OnStall::stop;
    }
    if (name == "throttle") {
        return OnStall::throttle;
    }
    if (name == "hybrid") {
        return OnStall::hybrid;
    }
    return formats::fail(
        formats::ErrorCode::invalid_argument,
        fmt::format("'{}' is no answer to a stall: it is throttle, stop, abort or hybrid", name));
}

std::uint32_t Policy::bulk_channels() const noexcept {
    // One thread encrypts what one guest processor's share of a host dirties; more than a few
    // saturate any link.
    constexpr std::uint32_t most_by_itself = 4;
    const std::uint32_t half = std::thread::hardware_concurrency() / 2;
    return streams.value_or(std::clamp<std::uint32_t>(half, 1, most_by_itself));
}

Patience Policy::ownership_patience() const noexcept {
    Patience patience;
    patience.reply = handover_deadline;
    return patience;
}

formats::Status Policy::check() const {
    using std::chrono::hours;
    using std::chrono::milliseconds;
    struct Time {
        std::string_view name;
        Duration value;
        Duration smallest;
        Duration largest;
    };
    const Time times[]{
        {"downtime", downtime, milliseconds{1}, hours{1}},
        {"silence", silence, milliseconds{100}, hours{1}},
        {"plan deadline", plan_deadline, milliseconds{100}, hours{1}},
        {"handover deadline", handover_deadline, milliseconds{100}, hours{1}},
        {"deadline", deadline.value_or(hours{1}), milliseconds{100}, hours{24 * 7}},
        {"recover timeout", recover_timeout.value_or(hours{1}), milliseconds{0}, hours{24 * 365}},
    };
    for (const Time& time : times) {
        if (time.value < time.smallest || time.value > time.largest) {
            const auto in_ms = [](Duration d) {
                return std::chrono::duration_cast<milliseconds>(d).count();
            };
            return formats::fail(
                formats::ErrorCode::invalid_argument,
                fmt::format(
                    "the {} of a migration is between {} ms and {} ms, not {} ms",
                    time.name,
                    in_ms(time.smallest),
                    in_ms(time.largest),
                    in_ms(time.value)));
        }
    }
    if (stall_rounds == 0 || max_rounds == 0) {
        return formats::fail(
            formats::ErrorCode::invalid_argument, "a migration needs at least one round");
    }
    if (streams && (*streams < 1 || *streams > channels_limit)) {
        return formats::fail(
            formats::ErrorCode::invalid_argument,
            fmt::format(
                "the pages of a migration go over 1 to {} streams, not {}",
                channels_limit,
                *streams));
    }
    for (const auto& limit : {bandwidth, postcopy_bandwidth}) {
        if (limit && limit->value() < 64 * 1024) {
            return formats::fail(
                formats::ErrorCode::invalid_argument,
                fmt::format(
                    "the bandwidth of a migration is at least 64 KiB/s, not {} B/s",
                    limit->value()));
        }
    }
    return {};
}

} // namespace wherry::migrate
