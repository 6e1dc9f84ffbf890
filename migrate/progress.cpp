// SPDX-License-Identifier: Apache-2.0
#include "migrate/progress.hpp"

#include <utility>

namespace wherry::migrate {

namespace {

constexpr Duration rate_window = std::chrono::seconds{1};
constexpr Duration tell_every = std::chrono::milliseconds{200};

double seconds(Duration time) {
    return std::chrono::duration<double>(time).count();
}

} // namespace

BytesPerSecond rate_of(formats::Bytes amount, Duration time) noexcept {
    if (time <= Duration::zero()) {
        return BytesPerSecond{0};
    }
    return BytesPerSecond{
        static_cast<std::uint64_t>(static_cast<double>(amount.value()) / seconds(time))};
}

Progress::Progress(Observer& observer, formats::Bytes memory, Duration goal, Now now)
    : observer_{observer},
      now_{now},
      started_{now()},
      round_started_{started_},
      window_started_{started_},
      told_{started_} {
    snapshot_.memory = memory;
    snapshot_.downtime_goal = goal;
}

void Progress::planned(std::vector<std::string> findings) {
    report_.plan = std::move(findings);
    observer_.planned(report_.plan);
}

void Progress::enter(formats::Phase phase) {
    snapshot_.phase = phase;
    tell(now_());
}

void Progress::explain(std::string state, std::string sentence) {
    if (sentence == snapshot_.ownership) {
        return;
    }
    snapshot_.ownership_state = std::move(state);
    snapshot_.ownership = std::move(sentence);
    tell(now_());
}

void Progress::set_missing(formats::PageCount missing, std::uint64_t waiting) {
    if (missing == snapshot_.missing && waiting == snapshot_.waiting) {
        return;
    }
    snapshot_.missing = missing;
    snapshot_.waiting = waiting;
    tell(now_());
}

void Progress::begin_round(std::uint32_t round, formats::Bytes total) {
    round_started_ = now_();
    snapshot_.round = round;
    snapshot_.round_done = formats::Bytes{0};
    snapshot_.round_total = total;
    report_.rounds.emplace_back();
    if (round == 0) {
        window_started_ = round_started_;
        window_wire_ = snapshot_.wire_bytes;
        window_settled_ = formats::Bytes{0};
    }
    tell(round_started_);
}

void Progress::add_pages(formats::PageCount raw, formats::PageCount zero, formats::Bytes wire) {
    RoundReport& round = report_.rounds.back();
    round.raw_pages += raw;
    round.zero_pages += zero;
    round.wire_bytes += wire;
    snapshot_.raw_page_bytes += formats::bytes_of(raw);
    snapshot_.zero_page_bytes += formats::bytes_of(zero);
    snapshot_.round_done += formats::bytes_of(raw + zero);
    add_wire(wire);
    const auto at = now_();
    measure(at);
    if (at - told_ >= tell_every) {
        tell(at);
    }
}

void Progress::count(const PageCounters::Sums& sums) {
    if (sums != counted_) {
        add_pages(sums.raw - counted_.raw, sums.zero - counted_.zero, sums.wire - counted_.wire);
        counted_ = sums;
    }
}

void Progress::add_wire(formats::Bytes wire) noexcept {
    snapshot_.wire_bytes += wire;
}

void Progress::end_round() {
    const auto at = now_();
    RoundReport& round = report_.rounds.back();
    round.duration = at - round_started_;
    in_rounds_ += round.duration;
    tell(at);
}

void Progress::predict(Duration blackout, formats::Bytes left) noexcept {
    snapshot_.predicted_blackout = blackout;
    report_.predicted_blackout = blackout;
    report_.predicted_last = Forecast{
        .total = elapsed() + blackout,
        .wire_bytes = snapshot_.wire_bytes + left,
        .blackout = blackout};
}

void Progress::measure(Clock::time_point at) {
    const Duration passed = at - window_started_;
    // Until the first window is full, what there is of it has to do.
    const bool first = snapshot_.effective_rate.value() == 0;
    if (passed < rate_window && !(first && passed >= tell_every)) {
        return;
    }
    const auto settled = snapshot_.raw_page_bytes + snapshot_.zero_page_bytes;
    snapshot_.wire_rate = rate_of(snapshot_.wire_bytes - window_wire_, passed);
    snapshot_.effective_rate = rate_of(settled - window_settled_, passed);
    window_started_ = at;
    window_wire_ = snapshot_.wire_bytes;
    window_settled_ = settled;
}

void Progress::tell(Clock::time_point at) {
    told_ = at;
    snapshot_.elapsed = at - started_;
    snapshot_.eta.reset();
    const auto rate = snapshot_.effective_rate.value();
    if (rate > 0 && snapshot_.round_total > snapshot_.round_done) {
        const auto left = snapshot_.round_total - snapshot_.round_done;
        snapshot_.eta = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
            static_cast<double>(left.value()) / static_cast<double>(rate)));
    }
    observer_.progressed(snapshot_);
}

Report Progress::report() const {
    Report report = report_;
    report.raw_page_bytes = snapshot_.raw_page_bytes;
    report.zero_page_bytes = snapshot_.zero_page_bytes;
    report.wire_bytes = snapshot_.wire_bytes;
    report.wire_rate = rate_of(snapshot_.wire_bytes, in_rounds_);
    report.effective_rate =
        rate_of(snapshot_.raw_page_bytes + snapshot_.zero_page_bytes, in_rounds_);
    report.total = now_() - started_;
    return report;
}

} // namespace wherry::migrate
