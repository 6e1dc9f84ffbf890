// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// One seed is one schedule: what is tried, and all that goes wrong on the way.
namespace wherry::sim {

using Duration = std::chrono::microseconds;

/// Numbers that depend on a seed and how many were drawn (splitmix64).
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept : state_{seed} {}
    std::uint64_t next() noexcept;
    /// 0 to limit - 1.
    std::uint64_t below(std::uint64_t limit) noexcept { return next() % limit; }
    bool one_in(std::uint64_t many) noexcept { return below(many) == 0; }
    Duration between(Duration from, Duration to) noexcept;

private:
    std::uint64_t state_;
};

enum class Where : std::uint8_t { source, destination };
constexpr Where other(Where where) noexcept {
    return where == Where::source ? Where::destination : Where::source;
}
std::string_view name_of(Where where) noexcept;

enum class FaultKind : std::uint8_t {
    crash,           ///< of the process at its `at`-th point; restarts after `lasts`
    freeze,          ///< of the process: it does nothing for `lasts`
    disk,            ///< the `at`-th record cannot be written (is there all the same: `flag`)
    cut,             ///< of all connections, when this side is at its `at`-th point
    stall,           ///< of one channel
    duplicate,       ///< this side's `at`-th message comes again after `lasts`
    arbiter_cut,     ///< this side cannot reach it (requests under way are lost: `flag`)
    arbiter_late,    ///< this side's `at`-th request is carried out after `lasts`
    cancel,          ///< by a user of this side
    session_failure, ///< of this side's session
    start_fails,     ///< the guest does not start at the `at`-th attempt
    careless,        ///< someone resolves, shared arbiter (destination: `flag`)
};
constexpr std::size_t fault_kinds = 12;
std::string_view name_of(FaultKind kind) noexcept;

struct Fault {
    FaultKind kind{};
    Where where{};
    unsigned at = 1; ///< which occasion of this side, from 1
    bool flag = false;
    Duration lasts{};       ///< 0: until all is repaired
    std::size_t number = 0; ///< in its schedule, as it was made
};
std::string words_for(const Fault& fault);

/// A rule that is broken on purpose, to see that it is found.
enum class Weakness : std::uint8_t {
    none,
    commit_before_its_record,
    epoch_does_not_advance,
    resumes_without_its_record,
    runs_without_its_record,
    starts_on_timeout,
    resumes_after_commit,
    forgets_on_timeout,
    drops_memory_at_commit,
    gives_back_after_running,
    resumes_without_arbiter,
    believes_its_request,
    old_page_overwrites,
    forgets_after_last_page,
};
constexpr std::size_t weaknesses = 14;
std::string_view name_of(Weakness weakness) noexcept;
std::optional<Weakness> weakness_from(std::string_view name) noexcept;

struct Schedule {
    std::uint64_t seed = 0;
    bool is_shared = false; ///< the arbiter
    bool is_hybrid = false; ///< the destination is to start with pages missing
    unsigned attempts = 1;
    std::vector<Fault> faults;
    // What is not repaired when all else is.
    bool source_is_gone = false;
    bool destination_is_gone = false;
    bool link_stays_down = false;
    bool arbiter_is_gone = false;
    Weakness weakness = Weakness::none;
};
Schedule make_schedule(std::uint64_t seed, Weakness weakness = Weakness::none);
/// Leaves only the faults with these numbers.
void keep_only(Schedule& schedule, const std::vector<std::size_t>& numbers);
/// Several lines for people.
std::string words_for(const Schedule& schedule);

} // namespace wherry::sim
