// SPDX-License-Identifier: Apache-2.0
#include "formats/page_run.hpp"

#include "formats/little_endian.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

namespace wherry::formats {

namespace {

// Offsets of the fields; see WIRE.md.
namespace batch_at {
constexpr std::size_t round = 0;
constexpr std::size_t run_count = 4;
} // namespace batch_at
namespace entry_at {
constexpr std::size_t first = 0;
constexpr std::size_t count = 8;
constexpr std::size_t encoded_length = 12;
constexpr std::size_t encoding = 16;
constexpr std::size_t reserved_a = 17;
constexpr std::size_t reserved_b = 18;
constexpr std::size_t reserved_c = 20;
} // namespace entry_at
static_assert(batch_at::run_count + sizeof(std::uint32_t) == batch_header_size);
static_assert(entry_at::reserved_c + sizeof(std::uint32_t) == run_entry_size);

PageRange range_of(Gfn first, PageCount count) {
    auto range = PageRange::make(first, count);
    invariant(range.has_value(), "a part of a run of pages is a run of pages");
    return *range;
}

std::unexpected<Error> refuse(std::size_t run, std::string_view fault) {
    return fail(ErrorCode::protocol, fmt::format("run {} of a page batch {}", run, fault));
}

Result<PageRun> decode_entry(std::size_t number, std::span<const std::byte> entry) {
    const auto count = PageCount{load_little<std::uint32_t>(entry, entry_at::count)};
    const auto pages =
        PageRange::make(Gfn{load_little<std::uint64_t>(entry, entry_at::first)}, count);
    if (!pages) {
        return refuse(number, fmt::format("is impossible: {}", pages.error().text()));
    }
    if (load_little<std::uint8_t>(entry, entry_at::reserved_a) != 0 ||
        load_little<std::uint16_t>(entry, entry_at::reserved_b) != 0 ||
        load_little<std::uint32_t>(entry, entry_at::reserved_c) != 0) {
        return refuse(number, "has bits set that this version does not know");
    }
    const auto encoding = load_little<std::uint8_t>(entry, entry_at::encoding);
    const Bytes length{load_little<std::uint32_t>(entry, entry_at::encoded_length)};
    PageCount limit;
    Bytes expected;
    switch (static_cast<PageEncoding>(encoding)) {
    case PageEncoding::zero:
        limit = pages_per_zero_run;
        break;
    case PageEncoding::raw:
        limit = raw_pages_per_batch;
        expected = bytes_of(count);
        break;
    default:
        return refuse(number, fmt::format("has the unknown encoding {}", encoding));
    }
    if (count > limit) {
        return refuse(
            number,
            fmt::format("has {} pages, more than the limit of {}", count.value(), limit.value()));
    }
    if (length != expected) {
        return refuse(
            number, fmt::format("has {} bytes instead of {}", length.value(), expected.value()));
    }
    return PageRun{
        .pages = *pages, .encoding = static_cast<PageEncoding>(encoding), .encoded_length = length};
}

/// A page that is in two runs, where there is one.
std::optional<Gfn> page_given_twice(std::span<const PageRun> runs) {
    const auto first = [](const PageRun& run) {
        return run.pages.first();
    };
    const auto meets = [](const PageRun& a, const PageRun& b) {
        return b.pages.first() < a.pages.end();
    };
    std::vector<PageRun> sorted;
    if (!std::ranges::is_sorted(runs, {}, first)) {
        sorted.assign(runs.begin(), runs.end());
        std::ranges::sort(sorted, {}, first);
        runs = sorted;
    }
    const auto found = std::ranges::adjacent_find(runs, meets);
    if (found == runs.end()) {
        return std::nullopt;
    }
    return std::next(found)->pages.first();
}

} // namespace

Result<PageBatchHeader>
decode_batch_header(std::span<const std::byte, batch_header_size> bytes, Bytes payload_length) {
    const PageBatchHeader header{
        .round = load_little<std::uint32_t>(bytes, batch_at::round),
        .run_count = load_little<std::uint32_t>(bytes, batch_at::run_count)};
    if (header.run_count == 0 || header.run_count > runs_per_batch) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "a page batch of {} runs: 1 to {} are allowed", header.run_count, runs_per_batch));
    }
    if (payload_length < Bytes{batch_header_size} + table_length(header)) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "a page batch of {} runs does not fit into its {} bytes",
                header.run_count,
                payload_length.value()));
    }
    return header;
}

Result<std::vector<PageRun>> decode_batch_table(
    const PageBatchHeader& header, std::span<const std::byte> table, Bytes payload_length) {
    invariant(
        Bytes{table.size()} == table_length(header), "the table is as long as its header says");
    std::vector<PageRun> runs;
    runs.reserve(header.run_count);
    Bytes total = Bytes{batch_header_size} + table_length(header);
    for (std::size_t i = 0; i < header.run_count; ++i) {
        auto run = decode_entry(i, table.subspan(i * run_entry_size, run_entry_size));
        if (!run) {
            return std::unexpected{std::move(run).error()};
        }
        total += run->encoded_length;
        runs.push_back(*run);
    }
    if (total != payload_length) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "the runs of a page batch make {} bytes, its frame announced {}",
                total.value(),
                payload_length.value()));
    }
    if (const auto page = page_given_twice(runs)) {
        return fail(
            ErrorCode::protocol,
            fmt::format("a page batch holds page {:#x} more than once", page->value()));
    }
    return runs;
}

PageBatchBuilder::PageBatchBuilder(std::uint32_t round) : round_{round} {
    runs_.reserve(runs_per_batch);
    head_.reserve(batch_header_size + run_entry_size * runs_per_batch);
}

PageCount PageBatchBuilder::raw_room() const noexcept {
    return runs_.size() == runs_per_batch ? PageCount{0} : raw_pages_per_batch - raw_pages_;
}

PageCount PageBatchBuilder::add(PageRange pages, PageEncoding encoding, PageCount limit) {
    const bool continues = !runs_.empty() && runs_.back().encoding == encoding &&
                           runs_.back().pages.end() == pages.first() &&
                           runs_.back().pages.count() < limit;
    if (!continues && runs_.size() == runs_per_batch) {
        return PageCount{0};
    }
    const PageCount there = continues ? runs_.back().pages.count() : PageCount{0};
    const PageCount taken = std::min(pages.count(), limit - there);
    const Gfn first = continues ? runs_.back().pages.first() : pages.first();
    const PageRun run{
        .pages = range_of(first, there + taken),
        .encoding = encoding,
        .encoded_length = encoding == PageEncoding::raw ? bytes_of(there + taken) : Bytes{0}};
    if (continues) {
        runs_.back() = run;
    } else {
        runs_.push_back(run);
    }
    return taken;
}

PageCount PageBatchBuilder::add_raw(PageRange pages) {
    const PageCount room = raw_pages_per_batch - raw_pages_;
    if (room == PageCount{0}) {
        return PageCount{0};
    }
    const PageCount offered = std::min(pages.count(), room);
    const PageCount taken =
        add(range_of(pages.first(), offered), PageEncoding::raw, raw_pages_per_batch);
    raw_pages_ += taken;
    return taken;
}

PageCount PageBatchBuilder::add_zero(PageRange pages) {
    const PageCount taken = add(pages, PageEncoding::zero, pages_per_zero_run);
    zero_pages_ += taken;
    return taken;
}

std::span<const std::byte> PageBatchBuilder::head() {
    invariant(!runs_.empty(), "a page batch has runs");
    head_.assign(batch_header_size + run_entry_size * runs_.size(), std::byte{0});
    const std::span<std::byte> bytes{head_};
    store_little(bytes, batch_at::round, round_);
    store_little(bytes, batch_at::run_count, static_cast<std::uint32_t>(runs_.size()));
    auto table = bytes.subspan(batch_header_size);
    for (const PageRun& run : runs_) {
        store_little(table, entry_at::first, run.pages.first().value());
        store_little(table, entry_at::count, static_cast<std::uint32_t>(run.pages.count().value()));
        store_little(
            table,
            entry_at::encoded_length,
            static_cast<std::uint32_t>(run.encoded_length.value()));
        store_little(table, entry_at::encoding, static_cast<std::uint8_t>(run.encoding));
        table = table.subspan(run_entry_size);
    }
    return head_;
}

Bytes PageBatchBuilder::payload_length() const noexcept {
    return Bytes{batch_header_size + run_entry_size * runs_.size()} + bytes_of(raw_pages_);
}

void PageBatchBuilder::reset(std::uint32_t round) {
    round_ = round;
    raw_pages_ = PageCount{0};
    zero_pages_ = PageCount{0};
    runs_.clear();
}

} // namespace wherry::formats
