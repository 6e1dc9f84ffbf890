// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/userfault_tracker.hpp"

#include "dirtylog/pagemap_scan_abi.hpp"
#include "formats/error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wherry::dirtylog {

namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;
using vmm::MemoryRegion;
using vmm::UniqueFd;

struct Feature {
    std::uint64_t bit;
    std::string_view name;
};
constexpr std::array<Feature, 4> features{{
    {.bit = abi::userfault_wp, .name = "write protection"},
    {.bit = abi::userfault_wp_shmem, .name = "write protection of shared memory (Linux 5.19)"},
    {.bit = abi::userfault_wp_unpopulated, .name = "write protection of holes (Linux 6.4)"},
    {.bit = abi::userfault_wp_async, .name = "asynchronous write protection (Linux 6.7)"},
}};

std::uint64_t wanted_features() {
    std::uint64_t bits = 0;
    for (const Feature& feature : features) {
        bits |= feature.bit;
    }
    return bits;
}

std::uint64_t address_of(const std::byte* at) {
    return std::bit_cast<std::uintptr_t>(at);
}

std::uint64_t length_of(const MemoryRegion& region) {
    return formats::bytes_of(region.pages.count()).value();
}

/// A new userfaultfd. Asynchronous faults are served inside the kernel, those of system calls and
/// KVM too, so that the unprivileged kind does.
Result<UniqueFd> open_userfault() {
    UniqueFd fd{
        static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY))};
    if (fd.is_open()) {
        return fd;
    }
    const int number = errno;
    const std::string_view remedy =
        number == ENOSYS ? "userfaultfd (the kernel is built without CONFIG_USERFAULTFD)"
        : number == EPERM
            ? "userfaultfd (forbidden here: allow the system call in the seccomp profile, or set "
              "vm.unprivileged_userfaultfd=1)"
            : "userfaultfd";
    return fail(formats::system_error(number, remedy));
}

Status negotiate(const UniqueFd& userfault, std::uint64_t wanted, std::uint64_t* offered) {
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = wanted;
    if (::ioctl(userfault.get(), UFFDIO_API, &api) != 0) {
        return fail(formats::system_error(errno, "UFFDIO_API"));
    }
    if (offered != nullptr) {
        *offered = api.features;
    }
    return {};
}

/// Says which feature this kernel lacks, if any.
Status check_features() {
    auto userfault = open_userfault();
    if (!userfault) {
        return std::unexpected{std::move(userfault).error()};
    }
    std::uint64_t offered = 0;
    auto status = negotiate(*userfault, 0, &offered);
    if (!status) {
        return status;
    }
    for (const Feature& feature : features) {
        if ((offered & feature.bit) == 0) {
            return fail(
                ErrorCode::unsupported,
                "userfaultfd of this kernel has no " + std::string{feature.name});
        }
    }
    return {};
}

Result<UniqueFd> open_pagemap() {
    UniqueFd pagemap{::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
    if (!pagemap.is_open()) {
        return fail(formats::system_error(errno, "opening /proc/self/pagemap"));
    }
    abi::ScanArgument nothing{};
    nothing.size = sizeof nothing;
    nothing.category_mask = abi::page_is_written;
    nothing.return_mask = abi::page_is_written;
    if (::ioctl(pagemap.get(), abi::pagemap_scan, &nothing) < 0) {
        return fail(formats::system_error(
            errno, "the PAGEMAP_SCAN ioctl (Linux 6.7 or newer) on /proc/self/pagemap"));
    }
    return pagemap;
}

} // namespace

struct UserfaultTracker::Scan {
    std::array<abi::PageRegion, 4096> found;
};

UserfaultTracker::UserfaultTracker(Opened, std::span<const MemoryRegion> regions, UniqueFd pagemap)
    : regions_{regions.begin(), regions.end()},
      pagemap_{std::move(pagemap)},
      scan_{std::make_unique<Scan>()} {}

UserfaultTracker::~UserfaultTracker() {
    // Nobody is left to hear of a failure; closing the descriptor ends all protection.
    std::ignore = stop();
}

Result<std::unique_ptr<UserfaultTracker>>
UserfaultTracker::open(std::span<const MemoryRegion> regions) {
    auto status = check_features();
    if (!status) {
        return std::unexpected{std::move(status).error()};
    }
    auto pagemap = open_pagemap();
    if (!pagemap) {
        return std::unexpected{std::move(pagemap).error()};
    }
    return std::make_unique<UserfaultTracker>(Opened{}, regions, *std::move(pagemap));
}

Status UserfaultTracker::start() {
    if (userfault_.is_open()) {
        return fail(ErrorCode::wrong_state, "dirty tracking by userfaultfd is on already");
    }
    auto userfault = open_userfault();
    if (!userfault) {
        return std::unexpected{std::move(userfault).error()};
    }
    userfault_ = *std::move(userfault);
    auto status = negotiate(userfault_, wanted_features(), nullptr);
    for (std::size_t i = 0; status && i < regions_.size(); ++i) {
        status = protect(regions_[i]);
    }
    if (!status) {
        userfault_.reset();
    }
    return status;
}

// Protection of a page that was never touched is a marker in the page table. Making all of them
// now also takes huge mappings apart, and while a region is registered no new ones come: only so
// is a page table entry that is empty *without* a marker (its page was written, then reclaimed)
// told from one that was never written.
Status UserfaultTracker::protect(const MemoryRegion& region) {
    uffdio_register registration{};
    registration.range = {.start = address_of(region.host), .len = length_of(region)};
    registration.mode = UFFDIO_REGISTER_MODE_WP;
    if (::ioctl(userfault_.get(), UFFDIO_REGISTER, &registration) != 0) {
        return fail(
            formats::system_error(errno, "UFFDIO_REGISTER of guest memory for write protection"));
    }
    // In pieces, so that the address space is not locked for long.
    constexpr std::uint64_t piece = std::uint64_t{256} << 20U;
    const std::uint64_t end = registration.range.start + registration.range.len;
    for (std::uint64_t at = registration.range.start; at < end; at += piece) {
        uffdio_writeprotect protection{};
        protection.range = {.start = at, .len = std::min(piece, end - at)};
        protection.mode = UFFDIO_WRITEPROTECT_MODE_WP;
        if (::ioctl(userfault_.get(), UFFDIO_WRITEPROTECT, &protection) != 0) {
            return fail(formats::system_error(errno, "UFFDIO_WRITEPROTECT of guest memory"));
        }
    }
    return {};
}

Status UserfaultTracker::collect(DirtySet& into) {
    auto status = userfault_.is_open()
                      ? Status{}
                      : fail(ErrorCode::wrong_state, "dirty tracking by userfaultfd is not on");
    for (std::size_t i = 0; status && i < regions_.size(); ++i) {
        status = scan(regions_[i], into);
    }
    if (!status) {
        into.mark_all();
        return fail(std::move(status).error().during("all pages count as dirty"));
    }
    return {};
}

Status UserfaultTracker::scan(const MemoryRegion& region, DirtySet& into) {
    const std::uint64_t base = address_of(region.host);
    abi::ScanArgument argument{};
    argument.size = sizeof argument;
    argument.flags = abi::scan_wp_matching | abi::scan_check_wp_async;
    argument.start = base;
    argument.end = base + length_of(region);
    argument.vector = std::bit_cast<std::uintptr_t>(scan_->found.data());
    argument.vector_length = scan_->found.size();
    // Exactly this pair: the kernel then also reports empty entries without a marker.
    argument.category_mask = abi::page_is_written;
    argument.return_mask = abi::page_is_written;
    while (argument.start < argument.end) {
        const int found = ::ioctl(pagemap_.get(), abi::pagemap_scan, &argument);
        if (found < 0) {
            return fail(formats::system_error(errno, "PAGEMAP_SCAN of guest memory"));
        }
        for (const abi::PageRegion& pages :
             std::span{scan_->found}.first(static_cast<std::size_t>(found))) {
            const Gfn first =
                region.pages.first() + PageCount{(pages.start - base) / formats::page_size};
            const auto range =
                PageRange::make(first, PageCount{(pages.end - pages.start) / formats::page_size});
            if (!range) {
                return std::unexpected{range.error()};
            }
            into.mark(*range);
        }
        if (argument.walk_end <= argument.start) {
            return fail(ErrorCode::io, "PAGEMAP_SCAN of guest memory made no progress");
        }
        argument.start = argument.walk_end;
    }
    return {};
}

Status UserfaultTracker::stop() {
    if (!userfault_.is_open()) {
        return {};
    }
    Status status;
    for (const MemoryRegion& region : regions_) {
        uffdio_range range{.start = address_of(region.host), .len = length_of(region)};
        if (::ioctl(userfault_.get(), UFFDIO_UNREGISTER, &range) != 0 && status) {
            status = fail(formats::system_error(errno, "UFFDIO_UNREGISTER of guest memory"));
        }
    }
    userfault_.reset();
    return status;
}

} // namespace wherry::dirtylog
