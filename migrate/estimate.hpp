// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_curve.hpp"
#include "formats/units.hpp"
#include "migrate/convergence.hpp"
#include "migrate/policy.hpp"
#include "migrate/progress.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::migrate {

/// What is known of a guest before anything of it has moved.
struct GuestOutlook {
    /// Of the first pass: what is sent, and what is looked at and found to be zero.
    formats::PageCount raw_pages, zero_pages;
    dirtylog::DirtyCurve dirtied;
};

/// What is known of the way to its destination. `low` and `high` are what 5 of 100 go beyond.
struct LinkOutlook {
    BytesPerSecond usual_rate, low_rate; ///< on the wire, not limited
    BytesPerSecond zero_rate;            ///< at which memory is found to be zero
    Duration opening{};                  ///< until the first page is sent, as far as it is known
    Duration collecting{};               ///< one reading of the dirty log, between two rounds
    /// What a blackout needs beside sending pages.
    Duration usual_fixed_cost{}, high_fixed_cost{};
};

enum class Likelihood : std::uint8_t { usual, unlucky };

/// A migration as it would go.
struct Course {
    Forecast forecast;
    Decision end = Decision::give_up; ///< never `again`
    std::uint32_t rounds = 0;         ///< while the guest runs at the source
    unsigned throttle_percent = 0;    ///< at the end
    formats::Bytes left;              ///< not sent yet when the guest is stopped; no zero pages

    /// The VM moves, with a blackout within the goal or, in hybrid mode, without its last pages.
    [[nodiscard]] bool arrives() const noexcept {
        return end == Decision::switch_over || end == Decision::go_hybrid;
    }
};

/// Goes through the rounds that Convergence would make of it, and a FirstPass. Where the VM would
/// stay, the forecast is of the time until then, and of the blackout that would have been.
Course
simulate(const GuestOutlook& guest, const LinkOutlook& link, const Policy& policy, Likelihood luck);

/// What is to be expected of a migration whose first pass has shown this. What the guest dirties in
/// a shorter time is taken to be in proportion to it: there is nothing else to go by.
Forecast forecast_after_first_pass(const RoundObservation& seen, const Policy& policy);

/// What a user can ask for.
enum class Way : std::uint8_t { precopy, throttle, hybrid };
std::string_view name_of(Way way) noexcept;

struct WayOutlook {
    Way way = Way::precopy;
    Course usual;
    Course unlucky; ///< its forecast is in no respect better than the usual one
};

struct Estimate {
    /// One of each, in the order of Way.
    std::vector<WayOutlook> ways;
    /// Unset: with none of them would the blackout be within the goal.
    std::optional<Way> recommended;
    std::string why; ///< one sentence
};

/// Of `policy`, mode and on_stall are the way's own. A way that `support` does not offer is
/// predicted all the same, but not recommended.
Estimate estimate(
    const GuestOutlook& guest,
    const LinkOutlook& link,
    const Policy& policy,
    HybridSupport support);

} // namespace wherry::migrate
