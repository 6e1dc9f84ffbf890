// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/journal_bytes.hpp"

#include "tests/unit/migrate/ownership/journal_support.hpp"

#include <algorithm>

#include <doctest/doctest.h>

using namespace wherry;
using formats::ErrorCode;
using migrate::RecordKind;
using tests::entry;

namespace {

using Bytes = std::vector<std::byte>;

Bytes file_of(std::span<const migrate::JournalEntry> entries) {
    Bytes file = migrate::journal_header();
    std::uint64_t sequence = 7; // the first may have any
    for (const auto& each : entries) {
        const auto record = migrate::encode_journal_record(each, sequence++);
        REQUIRE(record.has_value());
        file.insert(file.end(), record->begin(), record->end());
    }
    return file;
}

const std::vector two{entry(RecordKind::offered, 3), entry(RecordKind::committed, 3)};

} // namespace

TEST_CASE("journal: what is written is read") {
    const auto read = migrate::decode_journal(file_of(two));
    REQUIRE(read.has_value());
    CHECK(read->entries == two);
    CHECK(read->next_sequence == 9);
    CHECK(read->torn_bytes == 0);
}

TEST_CASE("journal: an empty one") {
    const auto read = migrate::decode_journal(migrate::journal_header());
    REQUIRE(read.has_value());
    CHECK(read->entries.empty());
    CHECK(read->next_sequence == 1);
}

TEST_CASE("journal: a last record of any length but its own is torn, and cut off") {
    const auto file = file_of(two);
    const auto first_end = file_of(std::span{two}.first(1)).size();
    for (auto size = first_end; size < file.size(); ++size) {
        const auto read = migrate::decode_journal(std::span{file}.first(size));
        REQUIRE(read.has_value());
        CHECK(read->entries.size() == 1);
        CHECK(read->torn_bytes == size - first_end);
        CHECK(read->next_sequence == 8);
    }
}

TEST_CASE("journal: a bit that is flipped anywhere is damage, in the last record too") {
    const auto file = file_of(two);
    for (std::size_t at = 0; at < file.size(); ++at) {
        auto damaged = file;
        damaged[at] ^= std::byte{0x10};
        const auto read = migrate::decode_journal(damaged);
        REQUIRE_MESSAGE(!read.has_value(), "byte ", at);
        const bool in_version = at >= 8 && at < 12;
        CHECK(
            read.error().code() ==
            (in_version ? ErrorCode::version_mismatch : ErrorCode::corrupted));
    }
}

TEST_CASE("journal: sectors of the last record that were not written are zero, and cut off") {
    auto first = entry(RecordKind::offered, 3);
    first.tls_directory = std::string(300, 'p');
    auto second = entry(RecordKind::committed, 3);
    second.tls_directory = std::string(900, 'q');
    const std::vector entries{first, second};
    const auto file = file_of(entries);
    const auto first_end = file_of(std::span{entries}.first(1)).size();
    for (std::size_t from = 0; from < file.size(); ++from) {
        auto zeroed = file;
        std::fill(zeroed.begin() + static_cast<std::ptrdiff_t>(from), zeroed.end(), std::byte{});
        const auto read = migrate::decode_journal(zeroed);
        // All of it, or whole sectors of it; here none begins in its head.
        const bool is_what_a_write_leaves =
            from == first_end || (from >= first_end + 32 && (from + 511) / 512 * 512 < file.size());
        CHECK_MESSAGE(
            (read.has_value() && read->entries.size() == 1) == is_what_a_write_leaves,
            "zero from byte ",
            from);
    }
}

TEST_CASE("journal: records that are missing, doubled or of another file are found") {
    const auto file = file_of(two);
    const auto half = file_of(std::span{two}.first(1)).size();
    Bytes doubled = file;
    doubled.insert(doubled.end(), file.begin() + static_cast<std::ptrdiff_t>(half), file.end());
    const auto read = migrate::decode_journal(doubled);
    REQUIRE(!read.has_value());
    CHECK(read.error().text().find("record 8 where 9 was due") != std::string::npos);
}

TEST_CASE("journal: fields over their limits are refused before they are written") {
    auto long_one = entry(RecordKind::offered, 1);
    long_one.tls_directory = std::string(4097, 'x');
    const auto record = migrate::encode_journal_record(long_one, 1);
    REQUIRE(!record.has_value());
    CHECK(record.error().code() == ErrorCode::invalid_argument);
    long_one.tls_directory.pop_back();
    long_one.record.arbiter = std::string(1024, 'x');
    long_one.peer = std::string(300, 'x');
    long_one.listens_on = std::string(301, 'x');
    REQUIRE(!migrate::encode_journal_record(long_one, 1).has_value());
    long_one.listens_on.pop_back();
    const auto longest = migrate::encode_journal_record(long_one, 1);
    REQUIRE(longest.has_value());
    CHECK(longest->size() <= migrate::journal_record_limit);
}

TEST_CASE("journal: described for people, whatever is in it") {
    CHECK(migrate::describe({}).find("no migration") != std::string::npos);
    auto odd = entry(RecordKind::committed, 3);
    odd.peer = "\x1b[31mred\n";
    const std::vector entries{entry(RecordKind::offered, 3), odd};
    const auto text = migrate::describe(entries);
    CHECK(text.find("2026-11-28") != std::string::npos);
    CHECK(text.find("OFFERED(3)\n") != std::string::npos);
    CHECK(text.find("given up here") != std::string::npos);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(std::ranges::count(text, '\n') == 5);
}

TEST_CASE("vm id: random, and read back from its text") {
    const auto one = migrate::VmId::make();
    CHECK(one != migrate::VmId::make());
    const auto again = migrate::VmId::parse(one.to_string());
    REQUIRE(again.has_value());
    CHECK(*again == one);
    CHECK(one.to_string()[14] == '4');
    for (const auto* bad :
         {"",
          "6f1e0a52-3b77-4c1d-9a55-0123456789a",
          "6f1e0a52-3b77-4c1d-9a55-0123456789ag",
          "6F1E0A52-3b77-4c1d-9a55-0123456789ab",
          "6f1e0a5203b77-4c1d-9a55-0123456789ab",
          "00000000-0000-0000-0000-000000000000",
          "../../../../../../../../../etc/passwd"}) {
        CHECK_FALSE(migrate::VmId::parse(bad).has_value());
    }
}
