// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/guest_memory.hpp"
#include "vmm/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/mman.h>

namespace wherry::dirtylog::test {

inline formats::PageRange pages(std::uint64_t first, std::uint64_t count) {
    return formats::PageRange::make(formats::Gfn{first}, formats::PageCount{count}).value();
}

/// Regions of shared memory as a guest has them, for trackers that want no more of a machine.
class MappedMemory {
public:
    explicit MappedMemory(const std::vector<formats::PageRange>& ranges)
        : file_{::memfd_create("wherry-test", MFD_CLOEXEC)} {
        REQUIRE(file_.is_open());
        formats::Bytes size;
        for (const formats::PageRange range : ranges) {
            size += formats::bytes_of(range.count());
        }
        REQUIRE(::ftruncate(file_.get(), static_cast<off_t>(size.value())) == 0);
        formats::Bytes offset;
        for (const formats::PageRange range : ranges) {
            const std::size_t length = formats::bytes_of(range.count()).value();
            void* at = ::mmap(
                nullptr,
                length,
                PROT_READ | PROT_WRITE,
                MAP_SHARED,
                file_.get(),
                static_cast<off_t>(offset.value()));
            REQUIRE(at != MAP_FAILED);
            regions_.push_back(
                {.pages = range, .host = static_cast<std::byte*>(at), .file_offset = offset});
            offset += formats::Bytes{length};
        }
    }
    MappedMemory(const MappedMemory&) = delete;
    MappedMemory& operator=(const MappedMemory&) = delete;
    ~MappedMemory() {
        for (const vmm::MemoryRegion& region : regions_) {
            ::munmap(region.host, formats::bytes_of(region.pages.count()).value());
        }
    }

    [[nodiscard]] const std::vector<vmm::MemoryRegion>& regions() const noexcept {
        return regions_;
    }
    [[nodiscard]] int file() const noexcept { return file_.get(); }
    [[nodiscard]] std::vector<formats::PageRange> ranges() const {
        std::vector<formats::PageRange> ranges;
        for (const vmm::MemoryRegion& region : regions_) {
            ranges.push_back(region.pages);
        }
        return ranges;
    }

    [[nodiscard]] std::byte* at(std::uint64_t page) const {
        for (const vmm::MemoryRegion& region : regions_) {
            if (region.pages.contains(formats::Gfn{page})) {
                return region.host + (page - region.pages.first().value()) * formats::page_size;
            }
        }
        FAIL("no such page: ", page);
        return nullptr;
    }
    /// One byte of the page, as a guest would.
    void write(std::uint64_t page, std::byte value) const {
        *static_cast<volatile std::byte*>(at(page) + page % formats::page_size) = value;
    }

private:
    vmm::UniqueFd file_;
    std::vector<vmm::MemoryRegion> regions_;
};

} // namespace wherry::dirtylog::test
