// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/unique_fd.hpp"

#include <atomic>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace wherry::vmm {

/// Hears of guest pages that the VMM itself (a device, a loader) wrote: no hypervisor logs those.
/// Called on the writing thread, after the bytes are in place; must be quick and must not throw.
class WriteObserver {
public:
    WriteObserver() = default;
    WriteObserver(const WriteObserver&) = delete;
    WriteObserver& operator=(const WriteObserver&) = delete;
    virtual void wrote(formats::PageRange pages) noexcept = 0;

protected:
    ~WriteObserver() = default;
};

/// One contiguous piece of guest RAM. `host` and `first * page_size` are 2 MiB aligned alike, so
/// that the host may use huge pages. `file_offset` is its place in the memfd.
struct MemoryRegion {
    formats::PageRange pages;
    std::byte* host;
    formats::Bytes file_offset;
};

/// Guest RAM: one shared memfd, mapped once per region. The vCPUs race with every access, so no
/// span of it is lent to code that looks twice; `landing` is the one exception, see there.
/// Any thread may read and write; the layout never changes after creation.
class GuestMemory {
public:
    /// RAM of `size` (a multiple of 2 MiB) in the usual PC layout: low RAM from 0 up to the hole
    /// at 3 GiB, the rest from 4 GiB. Nothing is touched: untouched pages cost nothing.
    static formats::Result<GuestMemory> create(formats::Bytes size);
    GuestMemory(GuestMemory&& other) noexcept;
    GuestMemory& operator=(GuestMemory&&) = delete;
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    ~GuestMemory();

    [[nodiscard]] std::span<const MemoryRegion> regions() const noexcept;
    [[nodiscard]] formats::Bytes size() const noexcept;
    [[nodiscard]] int file() const noexcept;

    /// Fails with invalid_argument, naming the address, where [at, at + bytes) is not all RAM.
    formats::Status read(formats::Gpa at, std::span<std::byte> into) const;
    /// As `read`; announces the pages to the observer.
    formats::Status write(formats::Gpa at, std::span<const std::byte> from);
    /// Replaces `expected` by `desired` in one step as the vCPUs see it: whether it was there. For
    /// page table entries and locked instructions. Fails as `read`, and where `at` is not a
    /// multiple of the size (1, 2, 4 or 8 bytes); announces the page where it wrote.
    template <std::unsigned_integral T>
    formats::Result<bool> compare_exchange(formats::Gpa at, T expected, T desired);

    /// Copies whole pages out for sending: `into` holds exactly range.count() pages. Look only at
    /// the copy: the guest may write meanwhile, and the dirty log then says so.
    formats::Status copy_pages(formats::PageRange range, std::span<std::byte> into) const;

    /// Where incoming pages of `range` (inside one region) land. For a destination whose vCPUs
    /// have not run: nobody else looks at these bytes, nothing is announced.
    formats::Result<std::span<std::byte>> landing(formats::PageRange range);
    /// Makes the pages read as zero, giving their memory back to the host where it had any.
    formats::Status zero(formats::PageRange range);

    /// The runs of pages that have ever been touched (by anyone). A page not listed reads as zero.
    /// A page first touched during the call may be missing: start the dirty log before.
    formats::Result<std::vector<formats::PageRange>> populated() const;

    /// At most one observer; nullptr takes it away. It must outlive its time as observer. Blocks
    /// until no announcement to the former observer is under way.
    void observe_writes(WriteObserver* observer);

private:
    GuestMemory() = default;
    UniqueFd file_;
    formats::Bytes size_;
    std::vector<MemoryRegion> regions_;
    struct Observation; // keeps the observer behind a stable address
    std::unique_ptr<Observation> observation_;
};

} // namespace wherry::vmm
