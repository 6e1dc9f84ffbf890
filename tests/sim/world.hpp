// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/sim/witness.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace wherry::sim {

/// What happened in one schedule, by name, for the table at the end.
using Counts = std::map<std::string, std::uint64_t, std::less<>>;

/// The injected clock: calls in the order of their times, equal times in the order of asking.
class Clock {
public:
    using Call = std::function<void()>;
    void after(Duration delay, Call call) {
        queue_.push_back({now_ + delay, ++last_, std::move(call)});
        std::ranges::push_heap(queue_, later);
    }
    [[nodiscard]] Duration now() const noexcept { return now_; }
    [[nodiscard]] bool is_empty() const noexcept { return queue_.empty(); }
    void step() {
        std::ranges::pop_heap(queue_, later);
        Entry entry = std::move(queue_.back());
        queue_.pop_back();
        now_ = entry.at;
        entry.call();
    }

private:
    struct Entry {
        Duration at;
        std::uint64_t number;
        Call call;
    };
    static bool later(const Entry& left, const Entry& right) noexcept {
        return std::pair{left.at, left.number} > std::pair{right.at, right.number};
    }
    Duration now_{};
    std::uint64_t last_ = 0;
    std::vector<Entry> queue_;
};

/// What one schedule consists of, for all who take part in it.
class World {
public:
    using Tell = std::function<void(const std::string& line)>;
    World(const Schedule& plan, Tell tell)
        : schedule{plan},
          random{plan.seed ^ 0x5bd1e995},
          tell_{std::move(tell)} {}

    void note(std::string_view who, const std::string& what);
    void count(std::string_view what) { ++counts.try_emplace(std::string{what}, 0).first->second; }
    /// Something changed: the run is not at rest.
    void moved() noexcept { last_move = clock.now(); }
    /// At rest is only who has none of these before him.
    void disturb(Duration delay, Clock::Call call);
    [[nodiscard]] const Fault* due(FaultKind kind, Where where, unsigned at) const;

    Clock clock;
    const Schedule& schedule;
    Random random;
    Witness witness;
    Counts counts;
    Duration last_move{};
    unsigned disturbances = 0;
    bool is_calm = false; ///< faults come no more
    bool is_traced() const noexcept { return static_cast<bool>(tell_); }

private:
    Tell tell_;
};

/// A shared arbiter. A request is on its way until it is carried out or lost, whoever lives.
class Arbiter {
public:
    using Answer = std::function<void(bool reached, std::optional<migrate::ArbiterRecord> record)>;
    explicit Arbiter(World& world) : world_{world} {}
    void
    ask(Where from,
        std::optional<migrate::ArbiterRecord> wanted,
        migrate::Asker asker,
        Answer answer);
    void cut(Where from, const Fault& fault);
    void repair() { reaches_ = {true, true}; }
    void close_for_good() { reaches_ = {false, false}; }
    [[nodiscard]] const std::optional<migrate::ArbiterRecord>& record() const { return record_; }

private:
    void carry_out(const migrate::ArbiterRecord& wanted, migrate::Asker asker);
    bool& reaches(Where from) { return reaches_[static_cast<std::size_t>(from)]; }

    World& world_;
    std::optional<migrate::ArbiterRecord> record_;
    std::array<bool, 2> reaches_{true, true};
    std::array<unsigned, 2> asked_{};
    std::array<unsigned, 2> lost_below_{}; ///< requests with a lower number never arrive
};

} // namespace wherry::sim
