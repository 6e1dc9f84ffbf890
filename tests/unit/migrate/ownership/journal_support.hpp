// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/journal.hpp"

#include <cstdint>

namespace wherry::tests {

inline migrate::VmId some_vm() {
    return *migrate::VmId::parse("6f1e0a52-3b77-4c1d-9a55-0123456789ab");
}

inline migrate::JournalEntry entry(migrate::RecordKind kind, std::uint64_t epoch) {
    return {
        .record =
            {.kind = kind,
             .epoch = migrate::Epoch{epoch},
             .pages_missing = epoch % 2 == 0,
             .arbiter = "file:/srv/arbiter",
             .migration_id = "m-1"},
        .vm_id = some_vm(),
        .vm_name = "web",
        .side = formats::Side::source,
        .peer = "10.0.0.2:7461",
        .tls_directory = "/etc/wherry/pki",
        .listens_on = "10.0.0.1:7461",
        .written_at = std::chrono::sys_seconds{std::chrono::seconds{1795855396}}};
}

} // namespace wherry::tests
