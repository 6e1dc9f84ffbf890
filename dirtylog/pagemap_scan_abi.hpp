// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/ioctl.h>

/// What <linux/fs.h> and <linux/userfaultfd.h> of Linux 6.7 say of asynchronous write protection;
/// the headers of older distributions do not have it. Documentation: admin-guide/mm/pagemap.rst
/// and userfaultfd.rst of the kernel.
namespace wherry::dirtylog::abi {

/// Pages of one kind in a row, [start, end) in virtual addresses.
struct PageRegion {
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t categories;
};
static_assert(sizeof(PageRegion) == 24);

struct ScanArgument {
    std::uint64_t size; ///< of this struct
    std::uint64_t flags;
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t walk_end; ///< out: where the walk ended; short of `end` when the vector is full
    std::uint64_t vector;   ///< address of PageRegions
    std::uint64_t vector_length;
    std::uint64_t max_pages; ///< 0: no limit
    std::uint64_t category_inverted;
    std::uint64_t category_mask;
    std::uint64_t category_anyof_mask;
    std::uint64_t return_mask;
};
static_assert(sizeof(ScanArgument) == 96);
static_assert(offsetof(ScanArgument, walk_end) == 32);
static_assert(offsetof(ScanArgument, return_mask) == 88);

/// _IOWR('f', 16, ScanArgument): the number of PageRegions filled in.
inline constexpr unsigned long pagemap_scan = _IOWR('f', 16, ScanArgument);
static_assert(pagemap_scan == 0xc0606610);

inline constexpr std::uint64_t scan_wp_matching = 1U << 0U;
inline constexpr std::uint64_t scan_check_wp_async = 1U << 1U;
inline constexpr std::uint64_t page_is_written = 1U << 1U;

inline constexpr std::uint64_t userfault_wp = 1U << 0U;
inline constexpr std::uint64_t userfault_wp_shmem = 1U << 12U;
inline constexpr std::uint64_t userfault_wp_unpopulated = 1U << 13U;
inline constexpr std::uint64_t userfault_wp_async = 1U << 15U;

} // namespace wherry::dirtylog::abi
