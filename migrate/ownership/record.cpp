// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/record.hpp"

namespace wherry::migrate {

std::string_view name_of(RecordKind kind) noexcept {
    switch (kind) {
    case RecordKind::offered:
        return "OFFERED";
    case RecordKind::committed:
        return "COMMITTED";
    case RecordKind::reclaimed:
        return "RECLAIMED";
    case RecordKind::handed_off:
        return "HANDED_OFF";
    case RecordKind::accepted:
        return "ACCEPTED";
    case RecordKind::running:
        return "RUNNING";
    case RecordKind::done:
        return "DONE";
    case RecordKind::abandoned:
        return "ABANDONED";
    case RecordKind::salvaged:
        return "SALVAGED";
    }
    return "unknown";
}

Custody custody_after(RecordKind kind) noexcept {
    switch (kind) {
    case RecordKind::reclaimed:
    case RecordKind::abandoned:
        return Custody::source;
    case RecordKind::handed_off:
    case RecordKind::running:
    case RecordKind::done:
        return Custody::destination;
    case RecordKind::offered:
    case RecordKind::committed:
    case RecordKind::accepted:
    case RecordKind::salvaged:
        break;
    }
    return Custody::undetermined;
}

bool may_follow(
    const std::optional<ArbiterRecord>& now, const ArbiterRecord& wanted, Asker asker) noexcept {
    const bool is_held = !now || now->kind != RecordKind::offered;
    // A VM may have changed hands without this arbiter before.
    const auto is_held_at = [&](Epoch epoch) {
        return is_held && (!now || now->epoch == epoch);
    };
    const auto says = [&](RecordKind kind, Epoch epoch) {
        return now == ArbiterRecord{kind, epoch};
    };
    if (wanted.epoch == Epoch{}) {
        return false;
    }
    const Epoch before{static_cast<std::uint64_t>(wanted.epoch) - 1};
    if (wanted.kind == RecordKind::offered) {
        return asker == Asker::source && is_held_at(before);
    }
    if (wanted.kind == RecordKind::committed) {
        return says(RecordKind::offered, wanted.epoch);
    }
    if (wanted.kind != RecordKind::reclaimed || before == Epoch{}) {
        return false;
    }
    // `before` is the epoch that was offered, or was to be.
    const Epoch held{static_cast<std::uint64_t>(before) - 1};
    return is_held_at(held) || says(RecordKind::offered, before) ||
           (asker != Asker::source && says(RecordKind::committed, before));
}

} // namespace wherry::migrate
