// SPDX-License-Identifier: Apache-2.0
// A journal as it may be found on a disk; and the same with the checksums that it should have.
#include "formats/little_endian.hpp"
#include "formats/page_digest.hpp"
#include "fuzz_target.hpp"
#include "migrate/ownership/journal_bytes.hpp"

#include <algorithm>
#include <vector>

using namespace wherry;

namespace {

constexpr std::size_t head_size = 32;

void try_file(std::span<const std::byte> file) {
    const auto contents = migrate::decode_journal(file);
    if (!contents) {
        return;
    }
    formats::invariant(contents->torn_bytes <= file.size(), "no more is torn than there is");
    auto again = migrate::journal_header();
    auto sequence = contents->next_sequence - contents->entries.size();
    for (const auto& entry : contents->entries) {
        const auto record = migrate::encode_journal_record(entry, sequence++);
        formats::invariant(record.has_value(), "an accepted record can be written");
        again.insert(again.end(), record->begin(), record->end());
    }
    const auto reread = migrate::decode_journal(again);
    formats::invariant(
        reread && reread->entries == contents->entries && reread->torn_bytes == 0,
        "what was accepted is written and read as the same");
    formats::invariant(
        !migrate::describe(contents->entries).empty(), "a journal has a description");
}

/// Gives each record, as far as its length makes it one, right checksums.
void repair(std::vector<std::byte>& file) {
    const std::span all{file};
    std::size_t at = migrate::journal_header_size;
    while (at + head_size <= all.size()) {
        const auto rest = all.subspan(at);
        const std::size_t length = formats::load_little<std::uint32_t>(rest, 4);
        if (length > rest.size() - head_size) {
            return;
        }
        const auto digest = [&](std::size_t from, std::size_t count) {
            return static_cast<std::uint64_t>(formats::digest_of(rest.subspan(from, count)));
        };
        formats::store_little(rest, 16, digest(head_size, length));
        formats::store_little(rest, 24, digest(0, 24));
        at += head_size + length + 4;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    try_file(input);
    std::vector<std::byte> file{input.begin(), input.end()};
    repair(file);
    try_file(file);
    return 0;
}
