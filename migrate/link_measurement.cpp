// SPDX-License-Identifier: Apache-2.0
#include "migrate/link_measurement.hpp"

#include "migrate/progress.hpp"

#include <algorithm>

namespace wherry::migrate {

namespace {

using formats::Bytes;

/// What is under way before anything has arrived.
constexpr Bytes first_window{std::uint64_t{256} << 10U};
/// As large as page batches are where the link is fast.
constexpr Bytes largest_piece{std::uint64_t{1} << 20U};
constexpr Bytes smallest_piece{std::uint64_t{4} << 10U};
constexpr std::uint64_t pieces_in_window = 4;
/// In a second: under a limit, so that it is met all the time and not in bursts.
constexpr std::uint64_t pieces_under_limit = 20;
/// A shorter stretch says more about the scheduling of two processes than about the link.
constexpr Duration shortest_sample = std::chrono::milliseconds{50};
/// Of all that came at a steady pace; else the beginning counts too.
constexpr Duration shortest_stretch = std::chrono::milliseconds{10};

Bytes window_after(Bytes arrived) {
    return std::clamp(arrived, first_window, window_limit);
}

} // namespace

LinkMeasurement::LinkMeasurement(Time begun, std::optional<BytesPerSecond> limit)
    : limit_{limit},
      words_{{.at = begun, .sum = Bytes{0}}} {}

Bytes LinkMeasurement::next_piece(Time now) const {
    const Bytes sent = arrived_ + window_.in_flight();
    if (now - words_.front().at >= longest_probe || sent >= probe_limit) {
        return Bytes{0};
    }
    Bytes piece = std::min(window_after(arrived_) / pieces_in_window, largest_piece);
    if (limit_) {
        piece = std::clamp(Bytes{limit_->value() / pieces_under_limit}, smallest_piece, piece);
    }
    return std::min(piece, probe_limit - sent);
}

bool LinkMeasurement::has_room(Bytes piece) const {
    return window_.has_room(piece) && window_.in_flight() + piece <= window_after(arrived_);
}

formats::Status LinkMeasurement::counted(Bytes sum, Time now) {
    auto counted = window_.placed(sum);
    if (!counted) {
        return counted;
    }
    arrived_ = sum;
    // No more than one a piece: one that repeats the last says nothing.
    if (sum > words_.back().sum) {
        words_.push_back({.at = now, .sum = sum});
    }
    return {};
}

Duration LinkMeasurement::took() const {
    return words_.back().at - words_.front().at;
}

LinkRate LinkMeasurement::rate() const {
    const auto settled = words_.front().at + took() / 4;
    auto from =
        std::ranges::find_if(words_, [settled](const Word& word) { return word.at >= settled; });
    const Word& last = words_.back();
    if (last.at - from->at < shortest_stretch) {
        from = words_.begin();
    }
    LinkRate rate;
    rate.usual = rate_of(last.sum - from->sum, last.at - from->at);
    rate.low = rate.usual;
    for (auto since = from; from != words_.end(); ++from) {
        if (from->at - since->at >= shortest_sample) {
            rate.low = std::min(rate.low, rate_of(from->sum - since->sum, from->at - since->at));
            since = from;
        }
    }
    return rate;
}

} // namespace wherry::migrate
