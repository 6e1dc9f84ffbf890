// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/journal.hpp"

#include "formats/error_message.hpp"

#include <iterator>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace wherry::migrate {

namespace {

/// What whoever reads the last record may rely on, and what comes next.
std::string_view meaning(RecordKind kind) {
    switch (kind) {
    case RecordKind::offered:
        return "the guest stood still here and was offered; who has it is not decided, or not "
               "known";
    case RecordKind::committed:
        return "the VM was given up here; the other host has it, or gives it back";
    case RecordKind::reclaimed:
        return "the VM is this host's; a migration was given up";
    case RecordKind::handed_off:
        return "the other host has the VM; nothing is here";
    case RecordKind::accepted:
        return "a whole copy was here and never ran; who has the VM is not decided, or not known";
    case RecordKind::running:
        return "the VM is this host's";
    case RecordKind::done:
        return "the VM is this host's, with all its pages";
    case RecordKind::abandoned:
        return "the VM never ran here and will not; the other host has it";
    case RecordKind::salvaged:
        return "the VM never runs again from here; its half of the memory may be written";
    }
    return "unknown";
}

std::string text_of(std::string_view text) {
    return text.empty() ? "none" : formats::sanitised(text);
}

} // namespace

std::string describe(std::span<const JournalEntry> entries) {
    if (entries.empty()) {
        return "no migration of this VM has come to its hand-over here\n";
    }
    const JournalEntry& last = entries.back();
    std::string text;
    auto into = std::back_inserter(text);
    fmt::format_to(
        into,
        "VM {} ({})\nmigration {}, {} here, peer {}, arbiter {}, TLS directory {}\n",
        text_of(last.vm_name),
        last.vm_id.to_string(),
        text_of(last.record.migration_id),
        name_of(last.side),
        text_of(last.peer),
        text_of(last.record.arbiter),
        text_of(last.tls_directory));
    for (const JournalEntry& entry : entries) {
        fmt::format_to(
            into,
            "{:%Y-%m-%d %H:%M:%S} UTC  {}({}){}\n",
            std::chrono::floor<std::chrono::seconds>(entry.written_at),
            name_of(entry.record.kind),
            static_cast<std::uint64_t>(entry.record.epoch),
            entry.record.pages_missing ? ", for post-copy" : "");
    }
    fmt::format_to(into, "that is: {}\n", meaning(last.record.kind));
    return text;
}

} // namespace wherry::migrate
