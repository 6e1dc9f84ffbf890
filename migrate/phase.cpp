// SPDX-License-Identifier: Apache-2.0
#include "migrate/phase.hpp"

#include <array>

namespace wherry::migrate {

namespace {

template <typename State>
struct Row {
    State state;
    std::string_view name;
    Custody custody;
    formats::Phase phase;
    State on_failure;
    std::span<const State> next;
};

using S = SourceState;
using D = DestinationState;
using formats::Phase;

constexpr std::array after_idle{S::connect, S::reclaimed};
constexpr std::array after_connect{S::plan, S::reclaimed};
constexpr std::array after_plan{S::precopy, S::reclaimed};
constexpr std::array after_precopy{S::drain, S::reclaimed};
constexpr std::array after_drain{S::offer, S::reclaimed};
constexpr std::array after_offer{S::committed, S::reclaimed};
constexpr std::array after_committed{S::handed_off, S::in_doubt};

constexpr std::array<Row<S>, 10> source_table{{
    {S::idle, "idle", Custody::source, Phase::none, S::reclaimed, after_idle},
    {S::connect, "connect", Custody::source, Phase::connect, S::reclaimed, after_connect},
    {S::plan, "plan", Custody::source, Phase::plan, S::reclaimed, after_plan},
    {S::precopy, "precopy", Custody::source, Phase::precopy, S::reclaimed, after_precopy},
    {S::drain, "drain", Custody::source, Phase::stop_and_copy, S::reclaimed, after_drain},
    {S::offer, "offer", Custody::source, Phase::handover, S::reclaimed, after_offer},
    {S::committed,
     "committed",
     Custody::undetermined,
     Phase::handover,
     S::in_doubt,
     after_committed},
    {S::handed_off, "handed-off", Custody::destination, Phase::done, S::handed_off, {}},
    {S::reclaimed, "reclaimed", Custody::source, Phase::done, S::reclaimed, {}},
    {S::in_doubt, "in-doubt", Custody::undetermined, Phase::done, S::in_doubt, {}},
}};

constexpr std::array d_after_idle{D::plan, D::abandoned};
constexpr std::array d_after_plan{D::filling, D::abandoned};
constexpr std::array d_after_filling{D::loaded, D::abandoned};
constexpr std::array d_after_loaded{D::accepted, D::abandoned};
// Abandoned by the source's word only: a failure does not lead there.
constexpr std::array d_after_accepted{D::running, D::abandoned, D::in_doubt};
constexpr std::array d_after_running{D::done, D::in_doubt};

constexpr std::array<Row<D>, 9> destination_table{{
    {D::idle, "idle", Custody::source, Phase::connect, D::abandoned, d_after_idle},
    {D::plan, "plan", Custody::source, Phase::plan, D::abandoned, d_after_plan},
    {D::filling, "filling", Custody::source, Phase::precopy, D::abandoned, d_after_filling},
    {D::loaded, "loaded", Custody::source, Phase::state, D::abandoned, d_after_loaded},
    {D::accepted,
     "accepted",
     Custody::undetermined,
     Phase::handover,
     D::in_doubt,
     d_after_accepted},
    {D::running, "running", Custody::destination, Phase::handover, D::in_doubt, d_after_running},
    {D::done, "done", Custody::destination, Phase::done, D::done, {}},
    {D::abandoned, "abandoned", Custody::source, Phase::done, D::abandoned, {}},
    {D::in_doubt, "in-doubt", Custody::undetermined, Phase::done, D::in_doubt, {}},
}};

const Row<S>& row(S state) noexcept {
    return source_table[static_cast<std::size_t>(state)];
}
const Row<D>& row(D state) noexcept {
    return destination_table[static_cast<std::size_t>(state)];
}

template <typename Table>
constexpr bool rows_are_in_order(const Table& table) {
    std::size_t index = 0;
    for (const auto& entry : table) {
        if (static_cast<std::size_t>(entry.state) != index) {
            return false;
        }
        ++index;
    }
    return true;
}
static_assert(rows_are_in_order(source_table));
static_assert(rows_are_in_order(destination_table));

} // namespace

std::string_view name_of(Custody custody) noexcept {
    switch (custody) {
    case Custody::source:
        return "source";
    case Custody::destination:
        return "destination";
    case Custody::undetermined:
        return "undetermined";
    }
    return "undetermined";
}

std::string_view name_of(SourceState state) noexcept {
    return row(state).name;
}
std::string_view name_of(DestinationState state) noexcept {
    return row(state).name;
}
std::span<const SourceState> successors(SourceState from) noexcept {
    return row(from).next;
}
std::span<const DestinationState> successors(DestinationState from) noexcept {
    return row(from).next;
}
Custody custody_of(SourceState state) noexcept {
    return row(state).custody;
}
Custody custody_of(DestinationState state) noexcept {
    return row(state).custody;
}
formats::Phase phase_of(SourceState state) noexcept {
    return row(state).phase;
}
formats::Phase phase_of(DestinationState state) noexcept {
    return row(state).phase;
}
SourceState after_failure(SourceState from) noexcept {
    return row(from).on_failure;
}
DestinationState after_failure(DestinationState from) noexcept {
    return row(from).on_failure;
}

} // namespace wherry::migrate
