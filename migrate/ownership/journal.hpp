// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/ownership/record.hpp"
#include "migrate/ownership/vm_id.hpp"

#include <chrono>
#include <span>
#include <string>
#include <vector>

namespace wherry::migrate {

/// One record, and what a restarted process needs beside it to go on from there.
struct JournalEntry {
    OwnershipRecord record;
    VmId vm_id;
    std::string vm_name; ///< on this host
    formats::Side side = formats::Side::source;
    std::string peer; ///< for the source where to connect to, for the destination who connected
    /// The directory with certificates and keys, whose contents never come here; empty: --insecure.
    std::string tls_directory;
    std::string listens_on; ///< for the destination where the source finds it; else empty
    /// For people; no decision looks at it.
    std::chrono::sys_seconds written_at;
    friend bool operator==(const JournalEntry&, const JournalEntry&) = default;
};

/// What this host remembers of who owns a VM. One thread at a time; blocks for as long as the disk
/// takes, so that sessions call it on their worker.
class Journal {
public:
    virtual ~Journal() = default;
    /// Durable on return. After an Error it is there or not, and a restart may find either; only
    /// an entry that is appended later with success overrules it. The journal can be used on.
    virtual formats::Status append(const JournalEntry& entry) = 0;
    /// What is known to be durable, oldest first; the last one counts, those before it are for
    /// people. Empty: this host never had a part in handing this VM over. Valid until append().
    [[nodiscard]] virtual std::span<const JournalEntry> entries() const noexcept = 0;
};

/// Some lines for people: which VM, the records with their times, and what the last one means.
/// Safe to be shown, whatever the entries hold.
std::string describe(std::span<const JournalEntry> entries);

} // namespace wherry::migrate
