// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/host_pages.hpp"

#include "vmm/mshv/abi/ioctls.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wherry::vmm::mshvsim {
namespace {

constexpr std::uint64_t page_size = mshv::abi::page_size;
constexpr int madv_populate_write = 23; // Linux 5.14

void* pointer(std::uint64_t address) noexcept {
    return std::bit_cast<void*>(address);
}

/// A write fault taken by the kernel without leave to wait or retry: FUTEX_WAKE_OP adds zero to
/// the page's first word, with the fault handled by fixup_user_fault().
bool fault_in(std::uint64_t page) noexcept {
    std::uint32_t nobody_waits_here = 0;
    constexpr int add_zero = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0);
    return ::syscall(
               SYS_futex,
               &nobody_waits_here,
               FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG,
               0,
               nullptr,
               pointer(page),
               add_zero) >= 0;
}

} // namespace

bool has_mapping(std::uint64_t address) noexcept {
    unsigned char present = 0;
    return ::mincore(pointer(address), page_size, &present) == 0;
}

Residency residency_of(std::uint64_t address, std::uint64_t pages) noexcept {
    std::array<unsigned char, 4096> present{};
    std::uint64_t count = 0;
    for (std::uint64_t done = 0; done < pages;) {
        const std::uint64_t part = std::min<std::uint64_t>(pages - done, present.size());
        if (::mincore(pointer(address + done * page_size), part * page_size, present.data()) != 0) {
            return Residency::none;
        }
        for (std::uint64_t page = 0; page < part; ++page) {
            count += present[page] & 1U;
        }
        done += part;
    }
    return count == 0 ? Residency::none : count == pages ? Residency::all : Residency::some;
}

bool populate_at_once(std::uint64_t address, std::uint64_t pages) noexcept {
    for (std::uint64_t page = 0; page < pages; ++page) {
        if (!fault_in(address + page * page_size)) {
            return false;
        }
    }
    return true;
}

int populate_waiting(std::uint64_t address, std::uint64_t size) noexcept {
    while (::madvise(pointer(address), size, madv_populate_write) != 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return errno;
        }
    }
    return 0;
}

} // namespace wherry::vmm::mshvsim
