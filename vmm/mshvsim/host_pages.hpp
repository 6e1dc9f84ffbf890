// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace wherry::vmm::mshvsim {

/// Is there a mapping of the process at this page?
bool has_mapping(std::uint64_t address) noexcept;
/// How many of the pages are present in memory.
enum class Residency : std::uint8_t { none, some, all };
Residency residency_of(std::uint64_t address, std::uint64_t pages) noexcept;

/// Makes pages present and writable as hmm_range_fault() of Linux 6.19 to 7.2 does: a page that
/// userfaultfd holds back is a failure, and nobody is told of it. So is a read-only or absent
/// mapping. False: some pages may be there nonetheless.
bool populate_at_once(std::uint64_t address, std::uint64_t pages) noexcept;
/// The same as of Linux 7.3, or by pinning: waits for userfaultfd; signals do not end the wait.
/// 0 or errno.
int populate_waiting(std::uint64_t address, std::uint64_t size) noexcept;

} // namespace wherry::vmm::mshvsim
