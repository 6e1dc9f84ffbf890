// SPDX-License-Identifier: Apache-2.0
#include "formats/little_endian.hpp"
#include "formats/page_run.hpp"
#include "fuzz_target.hpp"

#include <algorithm>

using namespace wherry::formats;

namespace {

void check(const PageBatchHeader& header, std::span<const PageRun> runs, Bytes payload_length) {
    invariant(runs.size() == header.run_count, "every run of the table was decoded");
    Bytes total = Bytes{batch_header_size} + table_length(header);
    PageCount raw;
    for (const PageRun& run : runs) {
        total += run.encoded_length;
        raw += run.encoding == PageEncoding::raw ? run.pages.count() : PageCount{0};
        invariant(run.pages.count() <= pages_per_zero_run, "a run is within its limit");
    }
    invariant(total == payload_length, "the runs make the payload");
    invariant(bytes_of(raw) <= payload_length, "raw pages have their bytes");
    const std::size_t compared = std::min<std::size_t>(runs.size(), 100);
    for (std::size_t a = 0; a < compared; ++a) {
        for (std::size_t b = a + 1; b < compared; ++b) {
            invariant(
                runs[a].pages.end() <= runs[b].pages.first() ||
                    runs[b].pages.end() <= runs[a].pages.first(),
                "no page is given twice");
        }
    }
}

} // namespace

// Input: payload length (4 bytes), batch header, table.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    if (input.size() < 4 + batch_header_size) {
        return 0;
    }
    const Bytes payload_length{load_little<std::uint32_t>(input, 0)};
    const auto head = input.subspan(4);
    const auto header = decode_batch_header(head.first<batch_header_size>(), payload_length);
    if (!header || table_length(*header).value() > head.size() - batch_header_size) {
        return 0;
    }
    const auto table = head.subspan(batch_header_size, table_length(*header).value());
    if (const auto runs = decode_batch_table(*header, table, payload_length)) {
        check(*header, *runs, payload_length);
    }
    // Again with the length that an attacker would announce: what the entries add up to.
    Bytes sum = Bytes{batch_header_size} + table_length(*header);
    for (std::size_t at = 12; at < table.size(); at += run_entry_size) {
        sum += Bytes{load_little<std::uint32_t>(table, at)};
    }
    if (const auto runs = decode_batch_table(*header, table, sum)) {
        check(*header, *runs, sum);
    }
    return 0;
}
