// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_memory.hpp"

#include "vmm/racing_copy.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace wherry::vmm {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::Gpa;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;
using formats::operator""_GiB;
using formats::operator""_KiB;
using formats::operator""_MiB;

namespace {

constexpr Bytes huge_page = 2_MiB;
constexpr Gpa hole_begin{(3_GiB).value()};
constexpr Gpa hole_end{(4_GiB).value()};
/// From here on giving memory back (one call to the kernel) beats clearing it.
constexpr Bytes punch_from = 64_KiB;

std::uintptr_t address_of(const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer); // only to align it
}

/// Maps `size` bytes of `file` at a 2 MiB aligned address.
Result<std::byte*> map_aligned(int file, Bytes offset, Bytes size) {
    const std::size_t reserved = (size + huge_page).value();
    void* const reservation =
        ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reservation == MAP_FAILED) {
        return fail(formats::system_error(errno, "reserving address space for guest memory"));
    }
    auto* const begin = static_cast<std::byte*>(reservation);
    const std::size_t misfit = address_of(begin) % huge_page.value();
    const std::size_t before = misfit == 0 ? 0 : huge_page.value() - misfit;
    std::byte* const aligned = begin + before;
    if (before != 0) {
        ::munmap(begin, before);
    }
    ::munmap(aligned + size.value(), reserved - before - size.value());
    void* const mapped = ::mmap(
        aligned,
        size.value(),
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_FIXED,
        file,
        static_cast<off_t>(offset.value()));
    if (mapped == MAP_FAILED) {
        const int number = errno;
        ::munmap(aligned, size.value());
        return fail(formats::system_error(number, "mapping guest memory"));
    }
    // Advice: a host without huge pages for shared memory serves small ones.
    std::ignore = ::madvise(aligned, size.value(), MADV_HUGEPAGE);
    return aligned;
}

Result<UniqueFd> make_file(Bytes size) {
    UniqueFd file{::memfd_create("wherry-guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!file.is_open()) {
        return fail(formats::system_error(errno, "memfd_create for guest memory"));
    }
    if (::ftruncate(file.get(), static_cast<off_t>(size.value())) != 0) {
        return fail(formats::system_error(
            errno, fmt::format("sizing guest memory to {} MiB", size.value() >> 20U)));
    }
    // A size that cannot change is a mapping that cannot raise SIGBUS.
    if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return fail(formats::system_error(errno, "sealing the size of guest memory"));
    }
    return file;
}

PageRange pages_between(Gfn first, PageCount count) {
    auto range = PageRange::make(first, count);
    formats::invariant(range.has_value(), "a run of pages inside guest memory is a valid run");
    return *range;
}

Bytes region_size(const MemoryRegion& region) {
    return formats::bytes_of(region.pages.count());
}

struct Place {
    std::byte* host;
    Bytes file_offset;
    Bytes left_in_region;
};

std::optional<Place> find(std::span<const MemoryRegion> regions, Gpa at) {
    for (const auto& region : regions) {
        const Gpa begin = formats::gpa_of(region.pages.first());
        if (at >= begin && at - begin < region_size(region)) {
            const Bytes inside = at - begin;
            return Place{
                region.host + inside.value(),
                region.file_offset + inside,
                region_size(region) - inside};
        }
    }
    return std::nullopt;
}

/// The place of all of [at, at + size), which lies in one region: no two regions touch.
Result<Place> find_whole(std::span<const MemoryRegion> regions, Gpa at, Bytes size) {
    const auto place = find(regions, at);
    if (!place || place->left_in_region < size) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "guest addresses {:#x} to {:#x} are not all RAM",
                at.value(),
                at.value() + size.value()));
    }
    return *place;
}

Status punch(int file, Bytes offset, Bytes size) {
    if (::fallocate(
            file,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            static_cast<off_t>(offset.value()),
            static_cast<off_t>(size.value())) != 0) {
        return fail(formats::system_error(errno, "giving back guest memory"));
    }
    return {};
}

/// The next run of bytes in [from, end) of the file that has memory behind it.
struct Extent {
    Bytes begin, end;
};
Result<std::optional<Extent>> next_extent(int file, Bytes from, Bytes end) {
    const off_t begin = ::lseek(file, static_cast<off_t>(from.value()), SEEK_DATA);
    if (begin < 0) {
        if (errno == ENXIO) {
            return std::nullopt;
        }
        return fail(formats::system_error(errno, "looking for populated guest memory"));
    }
    const Bytes data{static_cast<std::uint64_t>(begin)};
    if (data >= end) {
        return std::nullopt;
    }
    const off_t hole = ::lseek(file, begin, SEEK_HOLE);
    if (hole < 0) {
        return fail(formats::system_error(errno, "looking for holes in guest memory"));
    }
    return Extent{data, std::min(Bytes{static_cast<std::uint64_t>(hole)}, end)};
}

} // namespace

struct GuestMemory::Observation {
    std::shared_mutex lock; ///< shared while an announcement is under way
    WriteObserver* observer = nullptr;
};

Result<GuestMemory> GuestMemory::create(Bytes size) {
    if (size == Bytes{0} || size % huge_page != Bytes{0}) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("guest memory must be a multiple of 2 MiB, not {} bytes", size.value()));
    }
    if (size.value() > std::uint64_t{1} << 46U) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} GiB of guest memory: the limit is 64 TiB", size.value() >> 30U));
    }
    auto file = make_file(size);
    if (!file) {
        return fail(std::move(file.error()));
    }
    GuestMemory memory;
    memory.file_ = std::move(*file);
    memory.size_ = size;
    memory.observation_ = std::make_unique<Observation>();
    const Bytes low = std::min(size, hole_begin - Gpa{0});
    const auto add = [&memory](Gpa at, Bytes offset, Bytes length) -> Status {
        auto host = map_aligned(memory.file_.get(), offset, length);
        if (!host) {
            return fail(std::move(host.error()));
        }
        const auto pages = pages_between(formats::gfn_of(at), formats::pages_for(length));
        memory.regions_.push_back({.pages = pages, .host = *host, .file_offset = offset});
        return {};
    };
    if (auto added = add(Gpa{0}, Bytes{0}, low); !added) {
        return fail(std::move(added.error()));
    }
    if (low < size) {
        if (auto added = add(hole_end, low, size - low); !added) {
            return fail(std::move(added.error()));
        }
    }
    return memory;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : file_{std::move(other.file_)},
      size_{std::exchange(other.size_, Bytes{0})},
      regions_{std::exchange(other.regions_, {})},
      observation_{std::move(other.observation_)} {}

GuestMemory::~GuestMemory() {
    for (const auto& region : regions_) {
        ::munmap(region.host, region_size(region).value());
    }
}

std::span<const MemoryRegion> GuestMemory::regions() const noexcept {
    return regions_;
}
Bytes GuestMemory::size() const noexcept {
    return size_;
}
int GuestMemory::file() const noexcept {
    return file_.get();
}

Status GuestMemory::read(Gpa at, std::span<std::byte> into) const {
    const auto place = find_whole(regions_, at, Bytes{into.size()});
    if (!place) {
        return fail(place.error());
    }
    racing_copy(into.data(), place->host, into.size());
    return {};
}

Status GuestMemory::write(Gpa at, std::span<const std::byte> from) {
    const auto place = find_whole(regions_, at, Bytes{from.size()});
    if (!place) {
        return fail(place.error());
    }
    if (from.empty()) {
        return {};
    }
    // Held over both: an observer that is being taken away either hears of these bytes, or its
    // owner finds them in memory.
    const std::shared_lock held{observation_->lock};
    racing_copy(place->host, from.data(), from.size());
    if (observation_->observer != nullptr) {
        const Gfn first = formats::gfn_of(at);
        const Gfn last = formats::gfn_of(at + Bytes{from.size() - 1});
        observation_->observer->wrote(pages_between(first, (last - first) + PageCount{1}));
    }
    return {};
}

template <std::unsigned_integral T>
Result<bool> GuestMemory::compare_exchange(Gpa at, T expected, T desired) {
    const auto place = find_whole(regions_, at, Bytes{sizeof(T)});
    if (!place) {
        return fail(place.error());
    }
    if (at.value() % sizeof(T) != 0) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("guest address {:#x} is not a multiple of {}", at.value(), sizeof(T)));
    }
    const std::shared_lock held{observation_->lock};
    const bool was_there =
        std::atomic_ref{*reinterpret_cast<T*>(place->host)}.compare_exchange_strong(
            expected, desired);
    if (was_there && observation_->observer != nullptr) {
        observation_->observer->wrote(pages_between(formats::gfn_of(at), PageCount{1}));
    }
    return was_there;
}
template Result<bool> GuestMemory::compare_exchange(Gpa, std::uint8_t, std::uint8_t);
template Result<bool> GuestMemory::compare_exchange(Gpa, std::uint16_t, std::uint16_t);
template Result<bool> GuestMemory::compare_exchange(Gpa, std::uint32_t, std::uint32_t);
template Result<bool> GuestMemory::compare_exchange(Gpa, std::uint64_t, std::uint64_t);

Status GuestMemory::copy_pages(PageRange range, std::span<std::byte> into) const {
    if (into.size() != formats::bytes_of(range.count()).value()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} bytes are no room for {} pages", into.size(), range.count().value()));
    }
    return read(formats::gpa_of(range.first()), into);
}

Result<std::span<std::byte>> GuestMemory::landing(PageRange range) {
    const Bytes size = formats::bytes_of(range.count());
    const auto place = find_whole(regions_, formats::gpa_of(range.first()), size);
    if (!place) {
        return fail(place.error());
    }
    return std::span{place->host, size.value()};
}

Status GuestMemory::zero(PageRange range) {
    const Bytes size = formats::bytes_of(range.count());
    const auto place = find_whole(regions_, formats::gpa_of(range.first()), size);
    if (!place) {
        return fail(place.error());
    }
    if (size >= punch_from) {
        return punch(file_.get(), place->file_offset, size);
    }
    // Asking first: clearing a page that never was would give it memory.
    const Bytes end = place->file_offset + size;
    Bytes at = place->file_offset;
    while (at < end) {
        const auto extent = next_extent(file_.get(), at, end);
        if (!extent) {
            return fail(extent.error());
        }
        if (!*extent) {
            break;
        }
        std::byte* const begin = place->host + ((*extent)->begin - place->file_offset).value();
        std::fill_n(begin, ((*extent)->end - (*extent)->begin).value(), std::byte{0});
        at = (*extent)->end;
    }
    return {};
}

Result<std::vector<PageRange>> GuestMemory::populated() const {
    std::vector<PageRange> runs;
    for (const auto& region : regions_) {
        const Bytes end = region.file_offset + region_size(region);
        Bytes at = region.file_offset;
        while (at < end) {
            const auto extent = next_extent(file_.get(), at, end);
            if (!extent) {
                return fail(extent.error());
            }
            if (!*extent) {
                break;
            }
            const PageCount first{((*extent)->begin - region.file_offset) / formats::page_bytes};
            const PageCount last = formats::pages_for((*extent)->end - region.file_offset);
            runs.push_back(pages_between(region.pages.first() + first, last - first));
            at = (*extent)->end;
        }
    }
    return runs;
}

void GuestMemory::observe_writes(WriteObserver* observer) {
    const std::unique_lock held{observation_->lock};
    observation_->observer = observer;
}

} // namespace wherry::vmm
