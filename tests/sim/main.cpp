// SPDX-License-Identifier: Apache-2.0
// sim: plays schedules of the hand-over and says how they ended. See README.md beside this file.
#include "tests/sim/run.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace {

using namespace wherry::sim;

struct Options {
    std::uint64_t schedules = 1000;
    std::uint64_t seed = 1;
    unsigned jobs = 1;
    bool is_trace = false;
    Weakness weakness = Weakness::none;
    std::optional<std::vector<std::size_t>> keep; ///< only these faults of the seed
};

constexpr std::string_view usage =
    "Plays random schedules of the hand-over against its state machines.\n"
    "  sim --schedules N --seed S --jobs J     N seeds from S on; a table of how they ended\n"
    "  sim --seed S [--keep 0,2] --trace       one schedule, step by step; --keep: only these "
    "faults\n"
    "  --weakness NAME                         with one rule broken\n"
    "Example: sim --schedules 100000 --seed 1 --jobs 2\n"
    "Ends with 1 where something is violated, which is shrunk and shown; with 2 on a wrong "
    "command.\n";

bool read_number(std::string_view text, std::uint64_t& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && end == text.data() + text.size();
}

bool read_list(std::string_view text, std::vector<std::size_t>& list) {
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        std::uint64_t number = 0;
        if (!read_number(text.substr(0, comma), number)) {
            return false;
        }
        list.push_back(number);
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return true;
}

std::optional<Options> read_options(const std::vector<std::string_view>& words) {
    Options options;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "--trace") {
            options.is_trace = true;
            continue;
        }
        if (i + 1 == words.size()) {
            return std::nullopt;
        }
        const std::string_view name = words[i];
        const std::string_view value = words[++i];
        std::uint64_t number = 0;
        if (name == "--weakness") {
            const auto weakness = weakness_from(value);
            if (!weakness) {
                return std::nullopt;
            }
            options.weakness = *weakness;
        } else if (name == "--keep") {
            if (!read_list(value, options.keep.emplace())) {
                return std::nullopt;
            }
        } else if (!read_number(value, number)) {
            return std::nullopt;
        } else if (name == "--schedules") {
            options.schedules = number;
        } else if (name == "--seed") {
            options.seed = number;
        } else if (name == "--jobs" && number > 0) {
            options.jobs = static_cast<unsigned>(number);
        } else {
            return std::nullopt;
        }
    }
    return options;
}

/// The command that shows `schedule`, as one of its seed's with fewer faults.
std::string replay_of(const Schedule& schedule) {
    std::string kept;
    for (const Fault& fault : schedule.faults) {
        kept += fmt::format("{}{}", kept.empty() ? "" : ",", fault.number);
    }
    std::string command =
        fmt::format("sim --seed {} --keep {} --trace", schedule.seed, kept.empty() ? "''" : kept);
    if (schedule.weakness != Weakness::none) {
        command += fmt::format(" --weakness {}", name_of(schedule.weakness));
    }
    return command;
}

void show(const Schedule& failing, const Violation& violation) {
    const Schedule small = shrink(failing, violation);
    const Outcome outcome = run(small);
    fmt::print(
        "VIOLATED: {}: {}\n{}  replay: {}\n",
        outcome.violation->property,
        outcome.violation->what,
        words_for(small),
        replay_of(small));
}

int trace(const Options& options) {
    Schedule schedule = make_schedule(options.seed, options.weakness);
    if (options.keep) {
        keep_only(schedule, *options.keep);
    }
    fmt::print("{}", words_for(schedule));
    const Outcome outcome =
        run(schedule, [](const std::string& line) { fmt::print("{}\n", line); });
    fmt::print("ends: {}\n", outcome.end);
    if (outcome.violation) {
        fmt::print("VIOLATED: {}: {}\n", outcome.violation->property, outcome.violation->what);
    }
    return outcome.violation ? 1 : 0;
}

/// The table, and the seeds that failed: the first of each property is shown.
class Tally {
public:
    void add(const Schedule& schedule, const Outcome& outcome) {
        const std::lock_guard lock{mutex_};
        for (const auto& [name, number] : outcome.counts) {
            counts_[name] += number;
        }
        ++counts_["end: " + outcome.end];
        ++counts_[schedule.is_shared ? "with a shared arbiter" : "with arbiter local"];
        ++counts_[schedule.is_hybrid ? "hybrid" : "pre-copy"];
        if (outcome.violation) {
            auto& first = failures_[outcome.violation->property];
            ++first.count;
            if (first.count == 1 || schedule.seed < first.schedule.seed) {
                first.schedule = schedule;
                first.violation = *outcome.violation;
            }
        }
    }
    int finish(std::uint64_t schedules) const {
        for (const auto& [name, number] : counts_) {
            fmt::print("{:>12}  {}\n", number, name);
        }
        for (const auto& [property, failure] : failures_) {
            fmt::print("{} schedule(s) violate: {}; the first:\n", failure.count, property);
            show(failure.schedule, failure.violation);
        }
        fmt::print("sim: {} schedules, {} kinds of violations\n", schedules, failures_.size());
        return failures_.empty() ? 0 : 1;
    }

private:
    struct Failure {
        std::uint64_t count = 0;
        Schedule schedule;
        Violation violation;
    };
    std::mutex mutex_;
    Counts counts_;
    std::map<std::string, Failure> failures_;
};

int play_all(const Options& options) {
    Tally tally;
    std::atomic<std::uint64_t> next{0};
    const auto work = [&] {
        for (std::uint64_t i = next++; i < options.schedules; i = next++) {
            const Schedule schedule = make_schedule(options.seed + i, options.weakness);
            tally.add(schedule, run(schedule));
        }
    };
    std::vector<std::jthread> workers;
    for (unsigned i = 1; i < options.jobs; ++i) {
        workers.emplace_back(work);
    }
    work();
    workers.clear();
    return tally.finish(options.schedules);
}

} // namespace

int main(int argc, char** argv) {
    const auto options = read_options({argv + 1, argv + argc});
    if (!options) {
        fmt::print(stderr, "{}", usage);
        return 2;
    }
    return options->is_trace ? trace(*options) : play_all(*options);
}
