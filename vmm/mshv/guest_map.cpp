// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/guest_map.hpp"

#include "vmm/mshv/abi/ioctls.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include <sys/mman.h>

namespace wherry::vmm::mshv {

namespace ioctls = abi::ioctls;
using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

Status
set(const Descriptor& partition, PageRange pages, const std::byte* host, std::uint8_t flags) {
    ioctls::MemoryRegion argument{
        .size = formats::bytes_of(pages.count()).value(),
        .guest_pfn = pages.first().value(),
        .userspace_address = reinterpret_cast<std::uintptr_t>(host),
        .flags = flags};
    const auto done = partition.call(ioctls::set_guest_memory, &argument, "MSHV_SET_GUEST_MEMORY");
    return done ? Status{} : fail(done.error());
}

constexpr std::uint8_t readable_and_all =
    ioctls::memory_flags::writable | ioctls::memory_flags::executable;

const std::byte* host_of(const GuestMemory& memory, PageRange pages) {
    const auto regions = memory.regions();
    const auto found = std::ranges::find_if(
        regions, [pages](const MemoryRegion& region) { return region.pages.contains(pages); });
    formats::invariant(found != regions.end(), "what is mapped lies in one region of RAM");
    return found->host + formats::bytes_of(pages.first() - found->pages.first()).value();
}

bool overlap(PageRange a, PageRange b) {
    return a.first() < b.end() && b.first() < a.end();
}

} // namespace

Status GuestMap::map_all(const GuestMemory& memory, PageCount piece) {
    memory_ = &memory;
    for (const MemoryRegion& region : memory.regions()) {
        const PageCount all = region.pages.count();
        for (PageCount at{0}; at < all; at += piece) {
            if (auto done = map(region.pages.part(at, std::min(at + piece, all))); !done) {
                return done;
            }
        }
    }
    return {};
}

Status GuestMap::map(PageRange pages) {
    // The call pins memory with some kernels, and may wait for pages: not under the lock.
    if (auto done = set(partition_, pages, host_of(*memory_, pages), readable_and_all); !done) {
        return done;
    }
    const std::scoped_lock held{lock_};
    pieces_.push_back(pages);
    return {};
}

Result<std::vector<PageRange>> GuestMap::unmap(PageRange pages) {
    const std::scoped_lock held{lock_};
    std::vector<PageRange> gone;
    while (true) {
        const auto found = std::ranges::find_if(
            pieces_, [pages](PageRange piece) { return overlap(piece, pages); });
        if (found == pieces_.end()) {
            return gone;
        }
        const auto* const host = host_of(*memory_, *found);
        if (auto done = set(partition_, *found, host, ioctls::memory_flags::unmap); !done) {
            return fail(std::move(done.error()));
        }
        gone.push_back(*found);
        pieces_.erase(found);
    }
}

Result<bool> GuestMap::pins_memory() const {
    constexpr int access = PROT_READ | PROT_WRITE;
    void* const page =
        ::mmap(nullptr, formats::page_size, access, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return fail(formats::system_error(errno, "mapping a page to try the kernel with"));
    }
    const auto range = PageRange::make(formats::Gfn{0}, PageCount{1});
    formats::invariant(range.has_value(), "the first page is a run of pages");
    const auto* const host = static_cast<const std::byte*>(page);
    auto done = set(partition_, *range, host, readable_and_all);
    unsigned char is_present = 0;
    if (done) {
        formats::invariant(
            ::mincore(page, formats::page_size, &is_present) == 0, "mincore of a mapped page");
        done = set(partition_, *range, host, ioctls::memory_flags::unmap);
    }
    ::munmap(page, formats::page_size);
    return done ? Result<bool>{(is_present & 1U) != 0} : fail(std::move(done.error()));
}

} // namespace wherry::vmm::mshv
