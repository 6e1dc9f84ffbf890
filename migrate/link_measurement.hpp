// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "migrate/policy.hpp"
#include "migrate/send_window.hpp"

#include <chrono>
#include <optional>
#include <vector>

namespace wherry::migrate {

/// What a source sends at most to measure a link, and a destination takes.
inline constexpr formats::Bytes probe_limit{std::uint64_t{256} << 20U};
inline constexpr Duration longest_probe = std::chrono::seconds{1};

/// What a link has carried, as far as it was tried. `low` is what 5 of 100 samples fall below.
struct LinkRate {
    BytesPerSecond usual, low;
};

/// How much is sent when to find out what a link carries, and what the destination's counting says
/// of it. What is under way is never more than has arrived, so that a slow link is soon done with
/// it, and a fast one soon filled. Pure.
class LinkMeasurement {
public:
    using Time = std::chrono::steady_clock::time_point;

    /// `limit`: what may be sent in a second.
    LinkMeasurement(Time begun, std::optional<BytesPerSecond> limit);

    /// What is to be sent next; 0: enough has been.
    [[nodiscard]] formats::Bytes next_piece(Time now) const;
    /// Now; else the destination is to be heard first.
    [[nodiscard]] bool has_room(formats::Bytes piece) const;
    void sent(formats::Bytes piece) { window_.sent(piece); }
    /// The destination has counted so much since the beginning. `protocol` where that cannot be.
    [[nodiscard]] formats::Status counted(formats::Bytes sum, Time now);
    [[nodiscard]] bool is_all_counted() const noexcept { return window_.in_flight().value() == 0; }
    /// Sent and counted.
    [[nodiscard]] formats::Bytes arrived() const noexcept { return arrived_; }
    /// Between the beginning and the last word of the destination.
    [[nodiscard]] Duration took() const;
    /// Of what came after the first quarter of that time, in which a connection finds its pace.
    [[nodiscard]] LinkRate rate() const;

private:
    struct Word {
        Time at;
        formats::Bytes sum;
    };

    std::optional<BytesPerSecond> limit_;
    SendWindow window_;
    formats::Bytes arrived_;
    std::vector<Word> words_; ///< the first one of nothing, at the beginning
};

} // namespace wherry::migrate
