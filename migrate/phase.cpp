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
    std::span<const State> next;
};

using S = SourceState;
using D = DestinationState;
using formats::Phase;

constexpr std::array after_idle{S::connect, S::reclaimed};
constexpr std::array after_connect{S::plan, S::reclaimed};
constexpr std::array after_plan{S::precopy, S::reclaimed};
constexpr std::array after_precopy{S::drain, S::reclaimed};
constexpr std::array after_drain{S::reclaimed};

constexpr std::array<Row<S>, 14> source_table{{
    {S::idle, "idle", Custody::source, Phase::none, after_idle},
    {S::connect, "connect", Custody::source, Phase::connect, after_connect},
    {S::plan, "plan", Custody::source, Phase::plan, after_plan},
    {S::precopy, "precopy", Custody::source, Phase::precopy, after_precopy},
    {S::drain, "drain", Custody::source, Phase::stop_and_copy, after_drain},
    {S::offer, "offer", Custody::source, Phase::handover, {}},
    {S::committed, "committed", Custody::undetermined, Phase::handover, {}},
    {S::serving, "serving", Custody::destination, Phase::postcopy, {}},
    {S::split, "split", Custody::destination, Phase::postcopy, {}},
    {S::in_doubt, "in-doubt", Custody::undetermined, Phase::handover, {}},
    {S::handed_off, "handed-off", Custody::destination, Phase::done, {}},
    {S::reclaimed, "reclaimed", Custody::source, Phase::done, {}},
    {S::lost, "lost", Custody::source, Phase::done, {}},
    {S::salvaged, "salvaged", Custody::undetermined, Phase::done, {}},
}};

constexpr std::array d_after_idle{D::plan, D::abandoned};
constexpr std::array d_after_plan{D::filling, D::abandoned};
constexpr std::array d_after_filling{D::loaded, D::abandoned};
constexpr std::array d_after_loaded{D::abandoned};

constexpr std::array<Row<D>, 13> destination_table{{
    {D::idle, "idle", Custody::source, Phase::connect, d_after_idle},
    {D::plan, "plan", Custody::source, Phase::plan, d_after_plan},
    {D::filling, "filling", Custody::source, Phase::precopy, d_after_filling},
    {D::loaded, "loaded", Custody::source, Phase::state, d_after_loaded},
    {D::accepted, "accepted", Custody::undetermined, Phase::handover, {}},
    {D::running, "running", Custody::destination, Phase::handover, {}},
    {D::faulting, "faulting", Custody::destination, Phase::postcopy, {}},
    {D::split, "split", Custody::destination, Phase::postcopy, {}},
    {D::in_doubt, "in-doubt", Custody::undetermined, Phase::handover, {}},
    {D::done, "done", Custody::destination, Phase::done, {}},
    {D::abandoned, "abandoned", Custody::source, Phase::done, {}},
    {D::lost, "lost", Custody::destination, Phase::done, {}},
    {D::salvaged, "salvaged", Custody::undetermined, Phase::done, {}},
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

std::optional<SourceState> mirrored(SourceOwnerState state) noexcept {
    switch (state) {
    case SourceOwnerState::precopy:
    case SourceOwnerState::offering:
    case SourceOwnerState::committing:
    case SourceOwnerState::reclaiming:
    case SourceOwnerState::resuming:
    case SourceOwnerState::handing_off:
    case SourceOwnerState::salvaging:
        return std::nullopt;
    case SourceOwnerState::offer:
        return S::offer;
    case SourceOwnerState::committed:
        return S::committed;
    case SourceOwnerState::in_doubt:
        return S::in_doubt;
    case SourceOwnerState::serving:
        return S::serving;
    case SourceOwnerState::reclaimed:
        return S::reclaimed;
    case SourceOwnerState::handed_off:
        return S::handed_off;
    case SourceOwnerState::lost:
        return S::lost;
    case SourceOwnerState::split:
        return S::split;
    case SourceOwnerState::salvaged:
        return S::salvaged;
    }
    return std::nullopt;
}

std::optional<DestinationState> mirrored(DestinationOwnerState state) noexcept {
    switch (state) {
    case DestinationOwnerState::idle:
    case DestinationOwnerState::accepting:
    case DestinationOwnerState::launching:
    case DestinationOwnerState::abandoning:
    case DestinationOwnerState::salvaging:
        return std::nullopt;
    case DestinationOwnerState::accepted:
        return D::accepted;
    case DestinationOwnerState::in_doubt:
        return D::in_doubt;
    case DestinationOwnerState::starting:
        return D::running;
    case DestinationOwnerState::faulting:
        return D::faulting;
    case DestinationOwnerState::done:
        return D::done;
    case DestinationOwnerState::abandoned:
        return D::abandoned;
    case DestinationOwnerState::lost:
        return D::lost;
    case DestinationOwnerState::split:
        return D::split;
    case DestinationOwnerState::salvaged:
        return D::salvaged;
    }
    return std::nullopt;
}

} // namespace wherry::migrate
