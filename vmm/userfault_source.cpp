// SPDX-License-Identifier: Apache-2.0
#include "vmm/userfault_source.hpp"

#include "formats/error.hpp"
#include "vmm/prompt_thread.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace wherry::vmm {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::PageBitmap;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

/// Memory is watched by the window, counted from the start of its region, and not finer: each
/// stretch that is watched is a mapping of its own for the kernel.
constexpr PageCount window{512};
constexpr std::uint64_t most_stretches = 256;
/// What nobody waits for is left alone for so long: until then a guest that comes to run again
/// needs its processor more. A thread that computes keeps it up to 4 ms, the kernel's tick, once a
/// vCPU has been interrupted there.
constexpr std::chrono::milliseconds sweep_after{20};
/// That are mapped at once while nobody waits for them.
constexpr PageCount pages_of_a_sweep{64};

PageRange range_of(Gfn first, Gfn end) {
    auto range = PageRange::make(first, end - first);
    formats::invariant(range.has_value(), "a run of pages inside guest memory is a valid run");
    return *range;
}

/// The pages of the region that `pages` touches, in whole units counted from its start.
PageRange widened(PageRange region, PageRange pages, PageCount unit) {
    const PageCount first = pages.first() - region.first();
    const PageCount end = pages.end() - region.first();
    const PageCount from = first - first % unit;
    const PageCount to{(end + unit - PageCount{1}) / unit * unit.value()};
    return region.part(from, std::min(to, region.count()));
}

/// Sets all windows of `into` with a set page of `pages` in them.
void mark_windows(const PageBitmap& pages, PageBitmap& into) {
    const PageRange all = pages.pages();
    Gfn at = all.first();
    while (const auto run = pages.next_run(at, PageCount{1})) {
        const PageRange in_window = widened(all, *run, window);
        into.set(in_window);
        at = in_window.end();
    }
}

/// Closes gaps, the short ones first, until there are few runs.
void coalesce(PageBitmap& pages) {
    const PageRange all = pages.pages();
    for (PageCount gap = window;; gap = gap * 2) {
        std::uint64_t runs = 0;
        std::optional<Gfn> end;
        for (auto run = pages.next_run(all.first(), all.count()); run;
             run = pages.next_run(run->end(), all.count())) {
            if (end && run->first() - *end <= gap) {
                pages.set(range_of(*end, run->first()));
            } else {
                ++runs;
            }
            end = run->end();
        }
        if (runs <= most_stretches) {
            return;
        }
    }
}

void block_signals() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

} // namespace

Result<std::unique_ptr<UserfaultSource>>
UserfaultSource::open(GuestMemory& memory, PageCount granule) {
    auto userfault = Userfault::open();
    if (!userfault) {
        return fail(std::move(userfault.error()));
    }
    return std::make_unique<UserfaultSource>(Opened{}, memory, *std::move(userfault), granule);
}

UserfaultSource::UserfaultSource(
    Opened, GuestMemory& memory, Userfault userfault, PageCount granule)
    : memory_{memory},
      userfault_{std::move(userfault)},
      granule_{granule},
      missing_{memory.regions()},
      unmapped_{memory.regions(), window} {}

UserfaultSource::~UserfaultSource() {
    // Nobody is left to hear of a failure; closing the descriptor ends all watching.
    std::ignore = forget();
}

PageCount UserfaultSource::missing() const noexcept {
    return missing_.count();
}
std::vector<PageRange> UserfaultSource::missing_pages() const {
    return missing_.runs();
}
std::vector<PageRange> UserfaultSource::wanted_pages() const {
    return missing_.asked();
}

const MemoryRegion& UserfaultSource::region_of(Gfn page) const {
    const auto regions = memory_.regions();
    const auto found = std::ranges::find_if(
        regions, [page](const MemoryRegion& region) { return region.pages.contains(page); });
    formats::invariant(found != regions.end(), "pages that can be missing are RAM");
    return *found;
}

std::byte* UserfaultSource::address_of(const MemoryRegion& region, Gfn page) {
    return region.host + formats::bytes_of(page - region.pages.first()).value();
}

Bytes UserfaultSource::offset_of(const MemoryRegion& region, Gfn page) {
    return region.file_offset + formats::bytes_of(page - region.pages.first());
}

Status UserfaultSource::arm(
    std::span<const PageBitmap> missing, FaultListener& listener, MemoryBefore before) {
    if (state_ != State::fresh) {
        return fail(ErrorCode::wrong_state, "a source of pages is armed once");
    }
    stop_ = UniqueFd{::eventfd(0, EFD_CLOEXEC)};
    if (!stop_.is_open()) {
        return fail(formats::system_error(errno, "eventfd"));
    }
    if (auto begun = missing_.begin(missing); !begun) {
        return begun;
    }
    if (auto watching = watch(missing, before); !watching) {
        missing_.clear();
        unmapped_.clear();
        std::ignore = forget(); // the first failure is the one to tell
        return watching;
    }
    listener_ = &listener;
    state_ = State::armed;
    handler_ = std::thread{[this] {
        handle();
    }};
    if (before == MemoryBefore::used) { // else there are holes, and nothing to map
        sweeper_ = std::thread{[this] {
            sweep();
        }};
    }
    return {};
}

/// Watches all windows with missing pages in them, and makes the mapping forget what it has there.
/// A guest stands still meanwhile: nothing here is done page by page, or run by run.
Status UserfaultSource::watch(std::span<const PageBitmap> missing, MemoryBefore before) {
    for (std::size_t number = 0; number < missing.size(); ++number) {
        const MemoryRegion& region = memory_.regions()[number];
        const PageRange all = region.pages;
        PageBitmap watched{all};
        mark_windows(missing[number], watched);
        coalesce(watched);
        for (auto run = watched.next_run(all.first(), all.count()); run;
             run = watched.next_run(run->end(), all.count())) {
            const Watched stretch{
                .at = address_of(region, run->first()), .size = formats::bytes_of(run->count())};
            if (auto watching = userfault_.watch(stretch.at, stretch.size); !watching) {
                return watching;
            }
            watched_.push_back(stretch);
            if (before == MemoryBefore::used &&
                ::madvise(stretch.at, stretch.size.value(), MADV_DONTNEED) != 0) {
                return fail(formats::system_error(errno, "MADV_DONTNEED of guest memory"));
            }
        }
        missing_.take_from(watched);
        if (before == MemoryBefore::used) {
            unmapped_.add(watched);
        }
    }
    return {};
}

/// Ends the threads and all watching.
Status UserfaultSource::forget() {
    const std::scoped_lock alone{in_use_};
    ends_ = true;
    if (handler_.joinable()) {
        const std::uint64_t one = 1;
        formats::invariant(
            ::write(stop_.get(), &one, sizeof(one)) == sizeof(one), "an eventfd takes a one");
        handler_.join();
    }
    if (sweeper_.joinable()) {
        sweeper_.join();
    }
    Status done;
    for (const Watched& stretch : watched_) {
        if (auto ended = userfault_.unwatch(stretch.at, stretch.size); !ended && done) {
            done = std::move(ended);
        }
    }
    watched_.clear();
    return done;
}

Status UserfaultSource::disarm() {
    if (state_ != State::armed) {
        return fail(ErrorCode::wrong_state, "nothing is armed");
    }
    if (const PageCount left = missing(); left > PageCount{0}) {
        return fail(
            ErrorCode::wrong_state, fmt::format("{} pages are missing still", left.value()));
    }
    state_ = State::disarmed;
    return forget();
}

/// Who faults on one of them again finds a hole.
Result<std::vector<PageRange>> UserfaultSource::narrow(std::span<const PageBitmap> missing) {
    const std::shared_lock using_it{in_use_};
    auto left = missing_.narrow(missing);
    if (left) {
        for (const PageRange run : *left) {
            userfault_.wake(
                address_of(region_of(run.first()), run.first()), formats::bytes_of(run.count()));
        }
    }
    return left;
}

Status UserfaultSource::write(PageRange run, std::span<const std::byte> bytes) const {
    Bytes at = offset_of(region_of(run.first()), run.first());
    while (!bytes.empty()) {
        const ssize_t written =
            ::pwrite(memory_.file(), bytes.data(), bytes.size(), static_cast<off_t>(at.value()));
        if (written < 0 && errno != EINTR) {
            return fail(formats::system_error(errno, "placing pages of the guest"));
        }
        const auto done = static_cast<std::size_t>(std::max<ssize_t>(written, 0));
        bytes = bytes.subspan(done);
        at += Bytes{done};
    }
    return {};
}

Status UserfaultSource::punch(PageRange run) const {
    const Bytes at = offset_of(region_of(run.first()), run.first());
    if (::fallocate(
            memory_.file(),
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            static_cast<off_t>(at.value()),
            static_cast<off_t>(formats::bytes_of(run.count()).value())) != 0) {
        return fail(formats::system_error(errno, "placing zero pages of the guest"));
    }
    return {};
}

/// `with(run)` fills pages that nobody can reach; then they are there, and who waits looks again.
template <typename Fill>
Result<PageCount> UserfaultSource::fill(PageRange pages, const Fill& with) {
    const std::shared_lock using_it{in_use_};
    PageCount placed;
    Status done;
    for (const PageRange run : missing_.claim(pages)) {
        if (done) {
            done = with(run);
        }
        if (!done) {
            missing_.give_up(run);
            continue;
        }
        missing_.arrived(run);
        placed += run.count();
        const MemoryRegion& region = region_of(run.first());
        // Beyond a page that it cannot map, be it there or a hole, who waits faults again.
        const Bytes size = formats::bytes_of(run.count());
        std::byte* const at = address_of(region, run.first());
        const Bytes mapped = userfault_.map(at, size).done;
        if (mapped < size) {
            userfault_.wake(at + mapped.value(), size - mapped);
        }
    }
    if (!done) {
        return fail(std::move(done.error()));
    }
    const std::scoped_lock held{failure_lock_};
    if (failure_) {
        return fail(*failure_);
    }
    return placed;
}

Result<PageCount> UserfaultSource::place(PageRange pages, std::span<const std::byte> bytes) {
    if (bytes.size() != formats::bytes_of(pages.count()).value()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} bytes are not {} pages", bytes.size(), pages.count().value()));
    }
    return fill(pages, [&](PageRange run) {
        const auto from = formats::bytes_of(run.first() - pages.first()).value();
        return write(run, bytes.subspan(from, formats::bytes_of(run.count()).value()));
    });
}

Result<PageCount> UserfaultSource::place_zero(PageRange pages) {
    return fill(pages, [this](PageRange run) { return punch(run); });
}

bool UserfaultSource::is_missing(PageRange pages) const {
    return missing_.intersects(pages);
}

void UserfaultSource::want(PageRange pages) {
    for (const PageRange run : missing_.ask(pages)) {
        listener_->wanted(run);
    }
}

Status UserfaultSource::map_all(PageRange pages) {
    const std::shared_lock using_it{in_use_};
    const MemoryRegion& region = region_of(pages.first());
    Gfn at = pages.first();
    while (at < pages.end()) {
        const auto mapped =
            userfault_.map(address_of(region, at), formats::bytes_of(pages.end() - at));
        at += formats::pages_for(mapped.done);
        if (mapped.error == 0 || mapped.error == ENOENT) { // done, or not watched at all
            return {};
        }
        if (mapped.error == EEXIST) {
            at += PageCount{1};
            continue;
        }
        if (mapped.error != EFAULT) {
            return fail(formats::system_error(mapped.error, "UFFDIO_CONTINUE of guest memory"));
        }
        const Gfn end = std::min(next_in_file(region, at), pages.end());
        const auto zeros =
            userfault_.map_zeros(address_of(region, at), formats::bytes_of(end - at));
        at += formats::pages_for(zeros.done);
        if (zeros.error != 0 && zeros.error != EEXIST) { // else the file has it by now
            return fail(formats::system_error(zeros.error, "UFFDIO_ZEROPAGE of guest memory"));
        }
    }
    return {};
}

void UserfaultSource::remember(int error, const char* what) {
    const std::scoped_lock held{failure_lock_};
    if (!failure_) {
        failure_ = formats::system_error(error, what);
    }
}

// The threads that answer faults and that fill the mapping. They touch guest memory through the
// file's pages only by system calls that name no missing page, and so never wait for themselves.

void UserfaultSource::handle() {
    block_signals();
    ::pthread_setname_np(::pthread_self(), "faults");
    answer_promptly();
    constexpr std::size_t most_faults = 64;
    std::array<Userfault::Fault, most_faults> room{};
    std::array<pollfd, 2> descriptors{
        {{.fd = stop_.get(), .events = POLLIN, .revents = 0},
         {.fd = userfault_.descriptor(), .events = POLLIN, .revents = 0}}};
    while (true) {
        const int ready = ::poll(descriptors.data(), descriptors.size(), -1);
        if (ready < 0 && errno != EINTR) {
            remember(errno, "waiting for page faults");
            return;
        }
        if (descriptors[0].revents != 0) {
            return;
        }
        for (const auto& fault : userfault_.take(room)) {
            serve(fault);
        }
    }
}

void UserfaultSource::serve(const Userfault::Fault& fault) {
    const auto regions = memory_.regions();
    const auto found = std::ranges::find_if(regions, [&](const MemoryRegion& region) {
        return fault.page >= region.host && fault.page < address_of(region, region.pages.end());
    });
    formats::invariant(found != regions.end(), "what is watched is guest memory");
    const PageCount index{
        static_cast<std::uint64_t>(fault.page - found->host) / formats::page_size};
    const PageRange page = found->pages.part(index, index + PageCount{1});
    if (missing_.contains(page.first())) {
        want(widened(found->pages, page, granule_));
        return; // whoever places it wakes
    }
    if (fault.is_in_file) {
        map_present(unmapped_.take_around(page.first()));
        return;
    }
    const auto mapped = userfault_.map_zeros(fault.page, formats::page_bytes);
    if (mapped.error != 0) {
        if (mapped.error != EEXIST) { // else it was written meanwhile
            remember(mapped.error, "giving the guest a page of zeros");
        }
        userfault_.wake(fault.page, formats::page_bytes);
    }
}

/// None of these is missing.
void UserfaultSource::map_present(PageRange run) {
    const MemoryRegion& region = region_of(run.first());
    Gfn at = run.first();
    while (at < run.end()) {
        std::byte* const host = address_of(region, at);
        const auto mapped = userfault_.map(host, formats::bytes_of(run.end() - at));
        at += formats::pages_for(mapped.done);
        if (mapped.error == 0) {
            return;
        }
        userfault_.wake(host + mapped.done.value(), formats::page_bytes);
        if (mapped.error == EFAULT) { // a hole, whose first touch will bring zeros
            at = next_in_file(region, at + PageCount{1});
            continue;
        }
        if (mapped.error != EEXIST) {
            remember(mapped.error, "giving the guest pages that are there");
        }
        at += PageCount{1};
    }
}

/// The first page at or after `from` that the file has; the region's end where there is none.
Gfn UserfaultSource::next_in_file(const MemoryRegion& region, Gfn from) const {
    const PageRange all = region.pages;
    const Bytes at = offset_of(region, from);
    const off_t found = ::lseek(memory_.file(), static_cast<off_t>(at.value()), SEEK_DATA);
    if (found < 0) {
        return all.end();
    }
    const Bytes inside = Bytes{static_cast<std::uint64_t>(found)} - region.file_offset;
    return std::min(all.first() + PageCount{inside / formats::page_bytes}, all.end());
}

/// What nobody has touched yet, so that its first touch does not wait. A thread of its own, with no
/// more right to a processor than the guest has: who faults waits for the handler alone.
void UserfaultSource::sweep() {
    block_signals();
    ::pthread_setname_np(::pthread_self(), "sweep");
    pollfd stopped{.fd = stop_.get(), .events = POLLIN, .revents = 0};
    (void)::poll(&stopped, 1, sweep_after.count()); // sooner where it is interrupted
    while (!ends_) {
        const auto run = unmapped_.take_some(pages_of_a_sweep);
        if (!run) {
            return;
        }
        map_present(*run);
    }
}

} // namespace wherry::vmm
