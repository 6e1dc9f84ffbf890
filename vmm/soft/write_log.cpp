// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/write_log.hpp"

#include "vmm/unique_fd.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <vector>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::page_size;
using formats::Status;

namespace {

constexpr std::size_t most_mappings = 32768;
constexpr std::size_t word_bits = 64;

struct Area {
    std::byte* host;
    std::size_t bytes;
    formats::PageRange pages;
    std::vector<std::uint64_t> written; // one bit a page; under the lock
};

/// Held for a few instructions and one mprotect; taken in a signal handler, hence no mutex. Whoever
/// holds it never writes to guest RAM, so the handler cannot meet its own thread here.
class SpinLock {
public:
    explicit SpinLock(std::atomic_flag& flag) : flag_{flag} {
        while (flag_.test_and_set(std::memory_order_acquire)) {
            __builtin_ia32_pause();
        }
    }
    SpinLock(const SpinLock&) = delete;
    SpinLock& operator=(const SpinLock&) = delete;
    ~SpinLock() { flag_.clear(std::memory_order_release); }

private:
    std::atomic_flag& flag_;
};

} // namespace

struct WriteLog::Areas {
    std::atomic_flag lock;
    std::size_t pages_a_fault = 1;
    std::vector<Area> areas;
};

namespace {

/// The logs of this process. A log stays here from its first start to its end, on or off: a fault
/// may be on its way to the handler while the log is switched off.
std::array<std::atomic<WriteLog::Areas*>, 64> registered{};
struct sigaction previous{};

/// Opens the pages around `address` and records them. False: not ours.
bool open_pages(WriteLog::Areas& log, const std::byte* address) noexcept {
    for (Area& area : log.areas) {
        if (address < area.host || address >= area.host + area.bytes) {
            continue;
        }
        const SpinLock lock{log.lock};
        const auto page = static_cast<std::size_t>(address - area.host) / page_size;
        const std::size_t first = page - page % log.pages_a_fault;
        const std::size_t end = std::min(first + log.pages_a_fault, area.bytes / page_size);
        if (::mprotect(
                area.host + first * page_size, (end - first) * page_size, PROT_READ | PROT_WRITE) !=
            0) {
            return false;
        }
        for (std::size_t i = first; i < end; ++i) {
            area.written[i / word_bits] |= std::uint64_t{1} << (i % word_bits);
        }
        return true;
    }
    return false;
}

void on_fault(int number, siginfo_t* info, void* context) {
    const int saved_errno = errno;
    bool is_ours = false;
    for (auto& slot : registered) {
        WriteLog::Areas* const log = slot.load(std::memory_order_acquire);
        is_ours = is_ours || (log != nullptr && info->si_code == SEGV_ACCERR &&
                              open_pages(*log, static_cast<const std::byte*>(info->si_addr)));
    }
    errno = saved_errno;
    if (is_ours) {
        return;
    }
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        // Back to the default: the faulting instruction runs again and ends the process.
        ::sigaction(SIGSEGV, &previous, nullptr);
    }
}

/// At each start, for others may have put their own in its place since. It stays when logs end: who
/// came later may have chained to it.
Status install_handler() {
    struct sigaction current{};
    struct sigaction ours{};
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    ::sigemptyset(&ours.sa_mask);
    if (::sigaction(SIGSEGV, nullptr, &current) != 0) {
        return formats::fail(formats::system_error(errno, "sigaction of SIGSEGV"));
    }
    if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_fault) {
        return {};
    }
    previous = current;
    if (::sigaction(SIGSEGV, &ours, nullptr) != 0) {
        return formats::fail(formats::system_error(errno, "sigaction of SIGSEGV"));
    }
    return {};
}

} // namespace

WriteLog::WriteLog(GuestMemory& memory) : areas_{std::make_unique<Areas>()} {
    std::size_t pages = 0;
    for (const MemoryRegion& region : memory.regions()) {
        const auto count = static_cast<std::size_t>(region.pages.count().value());
        pages += count;
        areas_->areas.push_back(
            {.host = region.host,
             .bytes = count * page_size,
             .pages = region.pages,
             .written = std::vector<std::uint64_t>((count + word_bits - 1) / word_bits)});
    }
    areas_->pages_a_fault = std::bit_ceil(std::max<std::size_t>(1, pages / most_mappings));
}

WriteLog::~WriteLog() {
    // Only a failing mprotect keeps it on, and then there is nobody left to tell.
    (void)stop();
    for (auto& slot : registered) {
        Areas* ours = areas_.get();
        slot.compare_exchange_strong(ours, nullptr, std::memory_order_acq_rel);
    }
}

bool WriteLog::enlist() {
    const auto is_taken_by_us = [&](auto& slot) {
        return slot.load() == areas_.get();
    };
    if (std::ranges::any_of(registered, is_taken_by_us)) {
        return true;
    }
    return std::ranges::any_of(registered, [&](auto& slot) {
        Areas* none = nullptr;
        return slot.compare_exchange_strong(none, areas_.get(), std::memory_order_acq_rel);
    });
}

Status WriteLog::start() {
    if (is_on_) {
        return {};
    }
    if (auto installed = install_handler(); !installed) {
        return installed;
    }
    for (Area& area : areas_->areas) {
        std::ranges::fill(area.written, 0);
    }
    if (!enlist()) {
        return formats::fail(
            ErrorCode::out_of_resources,
            "64 soft guests of this process are being tracked already");
    }
    is_on_ = true;
    for (const Area& area : areas_->areas) {
        if (::mprotect(area.host, area.bytes, PROT_READ) != 0) {
            const int number = errno;
            auto stopped = stop();
            auto error = formats::system_error(number, "mprotect of guest RAM");
            return formats::fail(
                stopped ? std::move(error)
                        : std::move(error).during(std::move(stopped).error().text()));
        }
    }
    return {};
}

Status WriteLog::stop() {
    if (!is_on_) {
        return {};
    }
    for (const Area& area : areas_->areas) {
        if (::mprotect(area.host, area.bytes, PROT_READ | PROT_WRITE) != 0) {
            return formats::fail(formats::system_error(errno, "mprotect of guest RAM"));
        }
    }
    is_on_ = false;
    return {};
}

Status WriteLog::fetch(formats::PageRange region, std::span<std::uint64_t> bitmap) {
    std::ranges::fill(bitmap, 0);
    const auto area = std::ranges::find(areas_->areas, region, &Area::pages);
    if (!is_on_ || area == areas_->areas.end() || bitmap.size() < area->written.size()) {
        return formats::fail(
            is_on_ ? ErrorCode::invalid_argument : ErrorCode::wrong_state,
            is_on_ ? "a dirty log is read for whole regions of guest RAM only"
                   : "the dirty log is not on");
    }
    // Protected first, recorded under the same lock: a write is either in this reading or faults
    // again after it.
    const SpinLock lock{areas_->lock};
    if (::mprotect(area->host, area->bytes, PROT_READ) != 0) {
        return formats::fail(formats::system_error(errno, "mprotect of guest RAM"));
    }
    std::ranges::copy(area->written, bitmap.begin());
    std::ranges::fill(area->written, 0);
    return {};
}

bool host_logs_writes() {
    constexpr std::uint64_t feature_asynchronous = std::uint64_t{1} << 15U; // UFFD_FEATURE_WP_ASYNC
    const UniqueFd fault_fd{
        static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY))};
    if (!fault_fd.is_open()) {
        return false;
    }
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = feature_asynchronous;
    return ::ioctl(fault_fd.get(), UFFDIO_API, &api) == 0;
}

} // namespace wherry::vmm::soft
