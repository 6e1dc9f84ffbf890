// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/epoch.hpp"
#include "migrate/ownership/record.hpp"
#include "tests/sim/schedule.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace wherry::sim {

/// What was seen that must never be. The names are those of tests/model/check.
struct Violation {
    std::string property;
    std::string what;
};

constexpr std::size_t page_count = 3; ///< that come after the switch, in post-copy

/// A guest's memory on one side.
struct Memory {
    bool is_there = false;
    std::uint64_t generation = 0; ///< of what ran in it last; what runs makes all others old
    std::array<bool, page_count> pages{};
};

/// Sees every instruction of a guest, on both sides and elsewhere, and judges. Nobody decides by
/// what it knows. The first violation counts.
class Witness {
public:
    /// `memory` is what it starts from, or nullptr where it is booted.
    void starts(Where where, migrate::Epoch epoch, Memory& memory, bool from_memory);
    void stops(Where where) noexcept { runs_[index(where)] = false; }
    void starts_elsewhere();
    /// A record is on a side's disk now; `others` is what is on the other's.
    void sees_record(
        Where where,
        const migrate::OwnershipRecord& record,
        const std::optional<migrate::OwnershipRecord>& others,
        const Memory& memory,
        bool is_a_persons_word);
    void places(bool was_there);
    void violated(std::string property, std::string what);

    [[nodiscard]] bool runs(Where where) const noexcept { return runs_[index(where)]; }
    [[nodiscard]] bool runs_elsewhere() const noexcept { return runs_elsewhere_; }
    [[nodiscard]] unsigned running() const noexcept {
        return static_cast<unsigned>(runs_[0]) + static_cast<unsigned>(runs_[1]) +
               static_cast<unsigned>(runs_elsewhere_);
    }
    [[nodiscard]] bool is_current(const Memory& memory) const noexcept {
        return memory.is_there && memory.generation == generation_;
    }
    [[nodiscard]] const std::optional<Violation>& violation() const noexcept { return violation_; }

private:
    static std::size_t index(Where where) noexcept { return static_cast<std::size_t>(where); }

    std::array<bool, 2> runs_{};
    bool runs_elsewhere_ = false;
    std::uint64_t generation_ = 0;
    std::map<migrate::Epoch, Where> ran_in_;
    std::optional<Violation> violation_;
};

} // namespace wherry::sim
