// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "migrate/postcopy/latency_histogram.hpp"

#include <bitset>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace wherry::migrate {

/// The pages that somebody on the destination waits for: each is asked for once, and again after
/// a lost connection; how long each was waited for is measured. Any thread.
class FaultQueue {
public:
    using Clock = std::chrono::steady_clock;

    /// `on_work` is called, on the faulting thread, whenever take() may have become non-empty; it
    /// must be quick and may come more often than needed.
    explicit FaultQueue(std::function<void()> on_work) : on_work_{std::move(on_work)} {}

    /// Somebody waits for all of `pages`, which were missing a moment ago. What of them is waited
    /// for already is no news.
    void wanted(formats::PageRange pages, Clock::time_point now = Clock::now());
    /// What has not been asked for yet, `limit` ranges at most, in the order of the faults. It
    /// counts as asked for.
    [[nodiscard]] std::vector<formats::PageRange> take(std::size_t limit);
    /// All of `pages` are there now; again for those that were: no news.
    void arrived(formats::PageRange pages, Clock::time_point now = Clock::now());
    /// What was asked for and is not there yet is to be asked for again.
    void ask_again();

    /// How many are waited for.
    [[nodiscard]] std::size_t waiting() const;
    [[nodiscard]] LatencyHistogram latency() const;

private:
    static constexpr std::size_t longest_wait = 512; ///< pages
    struct Wait {
        formats::PageRange pages;
        Clock::time_point since;
        std::bitset<longest_wait> there{};
        bool is_asked = false;
    };
    using Waits = std::map<formats::Gfn, Wait>;
    /// The first part of `pages` that nobody waits for.
    [[nodiscard]] std::optional<formats::PageRange> unknown_part(formats::PageRange pages) const;
    /// The first wait that ends behind `page`.
    Waits::iterator first_beyond(formats::Gfn page);

    mutable std::mutex mutex_;
    std::function<void()> on_work_;
    Waits waits_;                      ///< by the first page; they do not overlap
    std::vector<formats::Gfn> to_ask_; ///< keys of waits_, in the order of the faults
    LatencyHistogram latency_;
};

} // namespace wherry::migrate
