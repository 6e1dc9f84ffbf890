// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "formats/units.hpp"
#include "migrate/page_counters.hpp"
#include "migrate/policy.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace wherry::migrate {

/// Where a migration stands. Totals are since its start.
struct ProgressSnapshot {
    formats::Phase phase = formats::Phase::none;
    std::uint32_t round = 0;
    formats::Bytes memory; ///< the guest's RAM
    /// Of this round.
    formats::Bytes round_done, round_total;
    /// Guest memory settled as raw and as zero pages, and what went over the wire for everything.
    formats::Bytes raw_page_bytes, zero_page_bytes, wire_bytes;
    /// Over about the last second: on the wire, and of guest memory settled (raw and zero).
    BytesPerSecond wire_rate, effective_rate;
    /// What the guest dirtied while the last round ran; 0 during round 0.
    BytesPerSecond dirty_rate;
    /// Unset until the first round has been measured.
    std::optional<Duration> predicted_blackout;
    Duration downtime_goal{};
    std::uint32_t streams = 0;     ///< bulk channels; 0 until they are open
    unsigned throttle_percent = 0; ///< by which the guest is slowed down
    /// The owner's state, and what is waited for; empty before the hand-over.
    std::string ownership_state, ownership;
    /// Post-copy: pages still missing, and who waits for some.
    formats::PageCount missing;
    std::uint64_t waiting = 0;
    /// Until the end of this round; unset while there is no rate.
    std::optional<Duration> eta;
    Duration elapsed{};
};

struct RoundReport {
    formats::PageCount raw_pages, zero_pages;
    formats::Bytes wire_bytes;
    Duration duration{};
};

/// What the guest felt, by the source's clock: from the call that stops the first vCPU to the
/// arrival of the destination's word that it runs.
struct Blackout {
    Duration stop{};     ///< until vCPUs and devices stand still
    Duration pages{};    ///< collecting and sending the last pages
    Duration state{};    ///< saving and sending the state of vCPUs and devices
    Duration load{};     ///< until the destination says that it has loaded everything
    Duration handover{}; ///< accept, commit, running
    [[nodiscard]] Duration total() const noexcept { return stop + pages + state + load + handover; }
};

/// What a migration will come to as a whole, said before it has.
struct Forecast {
    Duration total{};
    formats::Bytes wire_bytes;
    Duration blackout{};
    friend bool operator==(const Forecast&, const Forecast&) = default;
};

/// Post-copy, as the destination saw it.
struct FaultReport {
    std::uint64_t count = 0; ///< times that somebody waited for a page
    Duration median{}, p99{}, longest{};
    formats::PageCount repeated; ///< pages that came twice
};

/// How a migration went, also when it failed half way.
struct Report {
    /// The last one is the one sent while the guest stood still.
    std::vector<RoundReport> rounds;
    formats::Bytes raw_page_bytes, zero_page_bytes, wire_bytes;
    /// On the wire and of guest memory settled, over the time in which pages were sent.
    BytesPerSecond wire_rate, effective_rate;
    std::uint32_t streams = 0; ///< bulk channels that carried them
    Duration total{};
    /// Zero on the destination, whose clock does not see it.
    Blackout blackout;
    std::optional<Duration> predicted_blackout;
    /// What was expected of `total`, `wire_bytes` and `blackout` once the first pass had been
    /// made, and when the last round before the blackout had.
    std::optional<Forecast> predicted_first, predicted_last;
    /// What the plan exchange found, one sentence each.
    std::vector<std::string> plan;
    std::optional<FaultReport> faults;
    /// What went wrong without a bearing on the outcome, such as a farewell that was cut off.
    std::vector<std::string> notes;
};

/// Told on the session's thread; must be quick and must not throw. Copy what is to be kept.
class Observer {
public:
    Observer() = default;
    Observer(const Observer&) = delete;
    Observer& operator=(const Observer&) = delete;
    /// At each change of phase, at the end of each round, and several times a second while pages
    /// flow.
    virtual void progressed(const ProgressSnapshot& now) = 0;
    /// The plan is agreed on: what it found, one sentence each.
    virtual void planned(const std::vector<std::string>& findings) = 0;

protected:
    ~Observer() = default;
};

/// Counts what a session moves and keeps the phase's timings. One thread.
class Progress {
public:
    using Clock = std::chrono::steady_clock;
    using Now = Clock::time_point (*)();

    Progress(Observer& observer, formats::Bytes memory, Duration goal, Now now = Clock::now);

    /// Once the plan says so, on the destination.
    void set_memory(formats::Bytes memory) noexcept { snapshot_.memory = memory; }
    void planned(std::vector<std::string> findings);
    void note(std::string sentence) { report_.notes.push_back(std::move(sentence)); }
    void enter(formats::Phase phase);
    void begin_round(std::uint32_t round, formats::Bytes total);
    /// Pages of the present round that were handed over, and the bytes on the wire for them.
    void add_pages(formats::PageCount raw, formats::PageCount zero, formats::Bytes wire);
    /// add_pages() of what these have come to since the last call.
    void count(const PageCounters::Sums& sums);
    /// The counters are new ones.
    void count_anew() noexcept { counted_ = {}; }
    /// Bytes on the wire that are no pages.
    void add_wire(formats::Bytes wire) noexcept;
    void end_round();
    void set_dirty_rate(BytesPerSecond rate) noexcept { snapshot_.dirty_rate = rate; }
    void set_downtime_goal(Duration goal) noexcept { snapshot_.downtime_goal = goal; }
    void set_streams(std::uint32_t count) noexcept {
        snapshot_.streams = count;
        report_.streams = count;
    }
    void set_throttle(unsigned percent) noexcept { snapshot_.throttle_percent = percent; }
    /// After each round: the blackout if the guest were stopped now, and what it would have to
    /// send.
    void predict(Duration blackout, formats::Bytes left) noexcept;
    /// After the first pass.
    void forecast(const Forecast& whole) noexcept { report_.predicted_first = whole; }
    /// Tells the observer at once where the sentence is a new one.
    void explain(std::string state, std::string sentence);
    /// Post-copy, on the destination. Tells the observer at once where that is news.
    void set_missing(formats::PageCount missing, std::uint64_t waiting);
    void set_faults(const FaultReport& faults) noexcept { report_.faults = faults; }
    [[nodiscard]] Blackout& blackout() noexcept { return report_.blackout; }

    [[nodiscard]] const ProgressSnapshot& snapshot() const noexcept { return snapshot_; }
    /// The round now running, or the last one.
    [[nodiscard]] const RoundReport& round() const noexcept { return report_.rounds.back(); }
    [[nodiscard]] Clock::time_point now() const { return now_(); }
    [[nodiscard]] Clock::time_point started() const noexcept { return started_; }
    [[nodiscard]] Duration elapsed() const { return now_() - started_; }
    /// Everything, with the totals worked out.
    [[nodiscard]] Report report() const;

private:
    void measure(Clock::time_point at);
    void tell(Clock::time_point at);

    Observer& observer_;
    Now now_;
    Clock::time_point started_;
    Clock::time_point round_started_;
    /// Begin of the window in which rates are measured, and the totals at that moment.
    Clock::time_point window_started_;
    formats::Bytes window_wire_, window_settled_;
    Clock::time_point told_;
    PageCounters::Sums counted_; ///< as of the last count()
    Duration in_rounds_{};
    ProgressSnapshot snapshot_;
    Report report_;
};

/// Amount per time; zero where no time has passed.
BytesPerSecond rate_of(formats::Bytes amount, Duration time) noexcept;

} // namespace wherry::migrate
