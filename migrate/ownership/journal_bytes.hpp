// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/journal.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// formats/JOURNAL.md. Pure functions.
namespace wherry::migrate {

inline constexpr std::size_t journal_header_size = 16;
inline constexpr std::size_t journal_body_limit = 8192;
inline constexpr std::size_t journal_record_limit = 32 + journal_body_limit + 4;
inline constexpr std::size_t journal_file_limit = 65536;
/// Entries that a file keeps when it is written anew.
inline constexpr std::size_t journal_history = 16;

std::vector<std::byte> journal_header();
/// Error{invalid_argument} for an entry that a field's limit does not admit.
formats::Result<std::vector<std::byte>>
encode_journal_record(const JournalEntry& entry, std::uint64_t sequence);

struct JournalContents {
    std::vector<JournalEntry> entries;
    std::uint64_t next_sequence = 1;
    /// Bytes at the end that one unfinished write left behind.
    std::size_t torn_bytes = 0;
};
/// Total. Error{corrupted, version_mismatch} says where; the caller says in which file.
formats::Result<JournalContents> decode_journal(std::span<const std::byte> file);

} // namespace wherry::migrate
