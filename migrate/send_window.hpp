// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"

namespace wherry::migrate {

/// What a source may have sent on one bulk channel without the destination's word that it is in
/// place. Large enough for 10 Gbit/s over 20 ms.
inline constexpr formats::Bytes window_limit{std::uint64_t{32} << 20U};
/// The destination gives its word at least so often, and at the end of each round.
inline constexpr formats::Bytes placed_step{std::uint64_t{4} << 20U};

/// Counts the bytes under way on one channel. Acknowledgements are sums since the channel was
/// opened, so that a later one stands for all before it.
class SendWindow {
public:
    explicit SendWindow(formats::Bytes limit = window_limit) noexcept : limit_{limit} {}

    /// One sending of any size is let through when nothing is under way.
    [[nodiscard]] bool has_room(formats::Bytes bytes) const noexcept {
        return in_flight().value() == 0 || in_flight() + bytes <= limit_;
    }
    void sent(formats::Bytes bytes) noexcept { sent_ += bytes; }
    /// `protocol` where that is more than was sent, or less than was said before.
    [[nodiscard]] formats::Status placed(formats::Bytes sum);
    [[nodiscard]] formats::Bytes in_flight() const noexcept { return sent_ - placed_; }

private:
    formats::Bytes limit_;
    formats::Bytes sent_, placed_;
};

} // namespace wherry::migrate
