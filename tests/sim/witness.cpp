// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/witness.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::sim {

using migrate::RecordKind;

void Witness::violated(std::string property, std::string what) {
    if (!violation_) {
        violation_ = Violation{std::move(property), std::move(what)};
    }
}

void Witness::starts(Where where, migrate::Epoch epoch, Memory& memory, bool from_memory) {
    if (running() > 0) {
        violated("two run", fmt::format("the {} starts the guest while it runs", name_of(where)));
    }
    if (from_memory && !memory.is_there) {
        violated("memory is gone", fmt::format("the {} has nothing to start", name_of(where)));
    } else if (from_memory && !is_current(memory)) {
        violated("an old copy runs", fmt::format("the {} starts an old copy", name_of(where)));
    }
    const auto [ran, is_first] = ran_in_.emplace(epoch, where);
    if (!is_first && ran->second != where) {
        violated(
            "two in one epoch",
            fmt::format("both sides ran in epoch {}", static_cast<std::uint64_t>(epoch)));
    }
    ++generation_;
    memory.generation = generation_;
    memory.is_there = true;
    runs_[index(where)] = true;
}

void Witness::starts_elsewhere() {
    if (running() > 0) {
        violated("two run", "the guest is started elsewhere while it runs");
    }
    ++generation_;
    runs_elsewhere_ = true;
}

void Witness::sees_record(
    Where where,
    const migrate::OwnershipRecord& record,
    const std::optional<migrate::OwnershipRecord>& others,
    const Memory& memory,
    bool is_a_persons_word) {
    if (where == Where::source && record.kind == RecordKind::handed_off && !is_a_persons_word) {
        const bool has_it =
            others && others->epoch == record.epoch &&
            (others->kind == RecordKind::running || others->kind == RecordKind::done);
        if (!has_it) {
            violated("forgotten by both", "the source forgets a VM that the destination has not");
        }
    }
    if (record.kind == RecordKind::done &&
        !std::ranges::all_of(memory.pages, [](bool is_there) { return is_there; })) {
        violated("a page is missing", "DONE is written and a page is missing");
    }
}

void Witness::places(bool was_there) {
    if (was_there) {
        violated("an old page over a newer one", "a page is placed twice");
    }
}

} // namespace wherry::sim
