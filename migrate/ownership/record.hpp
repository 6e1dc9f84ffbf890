// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/custody.hpp"
#include "migrate/epoch.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// What is durable of who owns a VM: the records of a side's journal, and the one record that a
/// shared arbiter keeps. Plain data; docs/design.md, "Ownership", says what each one means and
/// what must not happen before it is on the disk.
namespace wherry::migrate {

/// The numbers are on disks: never reused, and 0 is none of them.
enum class RecordKind : std::uint8_t {
    offered = 1,    ///< source: the guest stands still; the destination may get it
    committed = 2,  ///< source: given up, the commit point with arbiter `local`
    reclaimed = 3,  ///< source: taken back, held at the epoch after the offer's
    handed_off = 4, ///< source: the destination's disk has it; nothing is here any more
    accepted = 5,   ///< destination: holds a whole copy that may be the guest
    running = 6,    ///< destination: the VM is this side's, and runs from now on
    done = 7,       ///< destination, post-copy: no page is missing
    abandoned = 8,  ///< destination: never ran it, never will
    salvaged = 9,   ///< either: never runs again from here; its half may be written
};
/// As docs/design.md writes it, "HANDED_OFF" for example.
std::string_view name_of(RecordKind kind) noexcept;

/// Whether it is a source that writes it; `salvaged` either side does.
constexpr bool is_of_source(RecordKind kind) noexcept {
    return kind == RecordKind::offered || kind == RecordKind::committed ||
           kind == RecordKind::reclaimed || kind == RecordKind::handed_off;
}

/// Who has the VM once this is durable. `undetermined`: what the other side, an arbiter or a person
/// says next decides, or nobody has it any more.
Custody custody_after(RecordKind kind) noexcept;

/// Whether the arbiter of this name is one that both hosts ask, and not "local".
constexpr bool is_shared_arbiter(std::string_view name) noexcept {
    return name != "local";
}

/// One record of a journal. The last one alone is all that a restarted process needs.
struct OwnershipRecord {
    RecordKind kind{};
    Epoch epoch{};
    /// The offer is for post-copy: what the destination accepts is not the whole guest.
    bool pages_missing = false;
    std::string arbiter; ///< of this attempt, as it was named: "local", "file:DIR" ...
    std::string migration_id;
    friend bool operator==(const OwnershipRecord&, const OwnershipRecord&) = default;
};

/// The record of one VM at a shared arbiter: `offered`, `committed` or `reclaimed`.
/// HELD(e) of the design is `committed` or `reclaimed` with e, or that there is no record yet.
struct ArbiterRecord {
    RecordKind kind{};
    Epoch epoch{};
    friend bool operator==(const ArbiterRecord&, const ArbiterRecord&) = default;
};

/// Who asks the arbiter for a change.
enum class Asker : std::uint8_t {
    source,
    destination,
    /// A person on the source, who knows that the destination's host is dead for good.
    fenced_source,
};

/// Whether a shared arbiter that has `now` changes its record to `wanted`. The whole rule: what it
/// allows is done whenever it is asked, also after its asker has died.
bool may_follow(
    const std::optional<ArbiterRecord>& now, const ArbiterRecord& wanted, Asker asker) noexcept;

} // namespace wherry::migrate
