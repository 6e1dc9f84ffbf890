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
    // Of an attempt that is over, or nothing: the VM may have changed hands without this arbiter
    // since, or have been taken back while it was away.
    const auto is_before = [&](Epoch epoch) {
        return !now || now->epoch < epoch;
    };
    const auto says = [&](RecordKind kind, Epoch epoch) {
        return now == ArbiterRecord{kind, epoch};
    };
    if (wanted.epoch == Epoch{}) {
        return false;
    }
    if (wanted.kind == RecordKind::offered) {
        return asker == Asker::source && is_before(wanted.epoch);
    }
    if (wanted.kind == RecordKind::committed) {
        return says(RecordKind::offered, wanted.epoch);
    }
    const Epoch offered{static_cast<std::uint64_t>(wanted.epoch) - 1}; // or was to be
    if (wanted.kind != RecordKind::reclaimed || offered == Epoch{}) {
        return false;
    }
    return is_before(offered) || says(RecordKind::offered, offered) ||
           (asker != Asker::source && says(RecordKind::committed, offered));
}

} // namespace wherry::migrate
