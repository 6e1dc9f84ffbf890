// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::formats {

// The payload of a page batch: header, table of runs, then the bytes of the runs in table order.
// Raw bytes are the pages as they are, so that a receiver places a run with one write. The bytes
// are specified in WIRE.md.

enum class PageEncoding : std::uint8_t {
    zero = 0, ///< all pages of the run are zero; no bytes
    raw = 1,  ///< 4096 bytes a page
};

inline constexpr std::size_t batch_header_size = 8;
inline constexpr std::size_t run_entry_size = 24;
inline constexpr std::uint32_t runs_per_batch = 1024;
/// Of all raw runs of a batch together.
inline constexpr PageCount raw_pages_per_batch{256};
inline constexpr PageCount pages_per_zero_run{std::uint64_t{1} << 20U};
/// The largest payload of a page batch.
inline constexpr Bytes page_batch_limit =
    Bytes{batch_header_size + run_entry_size * runs_per_batch} + bytes_of(raw_pages_per_batch);

struct PageRun {
    PageRange pages;
    PageEncoding encoding;
    /// What the run takes up after the table.
    Bytes encoded_length;
    friend bool operator==(const PageRun&, const PageRun&) = default;
};

struct PageBatchHeader {
    std::uint32_t round; ///< pre-copy pass the pages belong to, from 0
    std::uint32_t run_count;
    friend bool operator==(const PageBatchHeader&, const PageBatchHeader&) = default;
};

/// Length of the table that follows the header.
constexpr Bytes table_length(const PageBatchHeader& header) noexcept {
    return Bytes{run_entry_size} * header.run_count;
}

/// First step of a receiver: how long is the table? Refuses an empty table, one of too many runs
/// and one that does not fit into a payload of `payload_length`.
Result<PageBatchHeader>
decode_batch_header(std::span<const std::byte, batch_header_size> bytes, Bytes payload_length);
/// Second step: the runs, in the order of their bytes. Refuses runs that are empty, too long, of
/// an unknown encoding, or overlap each other, and lengths that do not add up to the payload.
/// `table` holds exactly table_length(header) bytes. Whether the pages are RAM of this guest
/// is for the caller to check (GuestMemory::landing does).
Result<std::vector<PageRun>> decode_batch_table(
    const PageBatchHeader& header, std::span<const std::byte> table, Bytes payload_length);

/// Collects the runs of one batch. The bytes of raw runs are the caller's: they follow head() on
/// the wire in the order in which the runs were added. Neighbours of one encoding become one run.
/// A page may be added once to a batch.
class PageBatchBuilder {
public:
    explicit PageBatchBuilder(std::uint32_t round);

    /// Takes as many pages from the front of `pages` as the limits allow and says how many: none
    /// means that the batch is full. An empty batch always takes some.
    [[nodiscard]] PageCount add_raw(PageRange pages);
    [[nodiscard]] PageCount add_zero(PageRange pages);

    [[nodiscard]] bool is_empty() const noexcept { return runs_.empty(); }
    [[nodiscard]] PageCount raw_pages() const noexcept { return raw_pages_; }
    [[nodiscard]] PageCount zero_pages() const noexcept { return zero_pages_; }
    /// How many raw pages would still be taken.
    [[nodiscard]] PageCount raw_room() const noexcept;
    [[nodiscard]] std::span<const PageRun> runs() const noexcept { return runs_; }

    /// Header and table; valid until the builder changes. Not of an empty batch.
    [[nodiscard]] std::span<const std::byte> head();
    /// Of head() and all raw bytes.
    [[nodiscard]] Bytes payload_length() const noexcept;

    /// Starts the next batch, keeping the buffers.
    void reset(std::uint32_t round);

private:
    PageCount add(PageRange pages, PageEncoding encoding, PageCount limit);

    std::uint32_t round_;
    PageCount raw_pages_;
    PageCount zero_pages_;
    std::vector<PageRun> runs_;
    std::vector<std::byte> head_;
};

} // namespace wherry::formats
