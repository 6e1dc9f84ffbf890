// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "vmm/guest_memory.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace wherry::vmm::soft {

/// A dirty log for hosts whose kernel cannot log writes to a process's memory: while it is on,
/// guest RAM is write-protected, and the SIGSEGV of the first write to a page opens and records it.
/// It sees every write through the mapping, whoever makes it: translated code, Unicorn's page-table
/// walker (accessed and dirty bits), the VMM. System calls that store into guest RAM
/// would fail with EFAULT meanwhile: the VMM copies instead.
///
/// Above 128 MiB a fault opens several pages together, so that the protections never cut guest RAM
/// into more than 32768 mappings (the kernel allows a process 65530); all of them count as written.
///
/// start, stop and fetch from one thread at a time, while the guest runs. Ended only after all
/// threads that write to guest RAM.
class WriteLog {
public:
    /// `memory` outlives the log.
    explicit WriteLog(GuestMemory& memory);
    WriteLog(const WriteLog&) = delete;
    WriteLog& operator=(const WriteLog&) = delete;
    ~WriteLog();

    formats::Status start();
    formats::Status stop();
    /// As Partition::fetch_dirty_log.
    formats::Status fetch(formats::PageRange region, std::span<std::uint64_t> bitmap);

    struct Areas; // what the signal handler sees
private:
    bool enlist();
    std::unique_ptr<Areas> areas_;
    bool is_on_ = false;
};

/// Whether the kernel can track writes asynchronously (userfaultfd with UFFD_FEATURE_WP_ASYNC, with
/// which PAGEMAP_SCAN came, Linux 6.7) and lets us. If so the dirty log is its business.
bool host_logs_writes();

} // namespace wherry::vmm::soft
