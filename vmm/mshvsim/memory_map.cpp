// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/memory_map.hpp"

#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/doorbells.hpp"
#include "vmm/mshvsim/host_pages.hpp"
#include "vmm/mshvsim/user_memory.hpp"

#include <algorithm>
#include <cerrno>

namespace wherry::vmm::mshvsim {

namespace memory_flags = mshv::abi::ioctls::memory_flags;
namespace status = mshv::abi::status;
using mshv::abi::page_size;

namespace {

constexpr std::uint64_t movable_window = 512;
/// Pinned memory is mapped at once; KVM's log is read by slots, hence not in one piece.
constexpr std::uint64_t pinned_window = 0x10000;
constexpr std::uint64_t end_of_user_space = 0x7ffffffff000;
/// The driver's array of 8 bytes a page would not fit this host's memory either.
constexpr std::uint64_t most_pages = std::uint64_t{1} << 32U;

} // namespace

MemoryMap::MemoryMap(
    Engine& engine, Personality personality, Doorbells& doorbells, unsigned gpa_bits)
    : engine_{engine},
      personality_{personality},
      doorbells_{doorbells},
      gpa_bits_{gpa_bits},
      window_pages_{personality == Personality::v6_18 ? pinned_window : movable_window} {}

int MemoryMap::set(const mshv::abi::ioctls::MemoryRegion& wanted, bool is_initialized) {
    if (wanted.size == 0 || wanted.size % page_size != 0 ||
        wanted.userspace_address % page_size != 0 || (wanted.flags & ~7U) != 0 ||
        std::ranges::any_of(wanted.reserved, [](auto byte) { return byte != 0; })) {
        return -EINVAL;
    }
    if ((wanted.flags & memory_flags::unmap) != 0) {
        const std::scoped_lock held{lock_};
        return unmap(wanted);
    }
    std::unique_lock held{lock_};
    if (const int error = check(wanted, is_initialized); error != 0) {
        return error;
    }
    if (personality_ == Personality::v6_18) {
        held.unlock(); // the partition's lock keeps other changes out; faults go on
        if (const int error = populate_waiting(wanted.userspace_address, wanted.size); error != 0) {
            return -error;
        }
        held.lock();
    }
    return map(wanted);
}

int MemoryMap::check(const mshv::abi::ioctls::MemoryRegion& wanted, bool is_initialized) {
    const std::uint64_t pages = wanted.size / page_size;
    if (wanted.userspace_address >= end_of_user_space ||
        wanted.size > end_of_user_space - wanted.userspace_address ||
        !has_mapping(wanted.userspace_address)) {
        return -EINVAL;
    }
    for (const auto& region : regions_) {
        const bool is_apart = wanted.guest_pfn - region->first_gfn >= region->pages &&
                              region->first_gfn - wanted.guest_pfn >= pages;
        const auto host_is_within = [&](std::uint64_t address) {
            return address - region->host < region->pages * page_size;
        };
        const bool is_alias = host_is_within(wanted.userspace_address) ||
                              host_is_within(wanted.userspace_address + wanted.size - 1);
        if (!is_apart || (is_alias && personality_ == Personality::v6_18)) {
            return -EEXIST;
        }
    }
    if (pages > most_pages) {
        return -ENOMEM;
    }
    // Sheet 9.10: not known; both known clients initialize first.
    if (!is_initialized) {
        return -status::to_errno(status::invalid_partition_state);
    }
    const std::uint64_t end = std::uint64_t{1} << (gpa_bits_ - 12);
    return wanted.guest_pfn < end && pages <= end - wanted.guest_pfn
               ? 0
               : -status::to_errno(status::invalid_parameter);
}

int MemoryMap::map(const mshv::abi::ioctls::MemoryRegion& wanted) {
    auto region = std::make_shared<Region>();
    region->first_gfn = wanted.guest_pfn;
    region->pages = wanted.size / page_size;
    region->host = wanted.userspace_address;
    region->is_writable = (wanted.flags & memory_flags::writable) != 0;
    region->is_executable = (wanted.flags & memory_flags::executable) != 0;
    if (is_tracking_) {
        region->dirty.assign((region->pages + 63) / 64, ~std::uint64_t{0});
        region->accessed = region->dirty;
    }
    unmapped_windows_ += window_count(*region);
    if (personality_ == Personality::v6_18) {
        for (std::uint64_t window = 0; window < window_count(*region); ++window) {
            if (const int error = map_window(*region, window); error != 0) {
                for (const auto& [index, slot] : region->windows) {
                    engine_.set_slot({.number = slot});
                    free_slots_.push_back(slot);
                }
                unmapped_windows_ -= window_count(*region) - region->windows.size();
                return -error;
            }
        }
    }
    std::erase_if(ghosts_, [&](const Stretch& ghost) {
        return ghost.first_gfn - region->first_gfn < region->pages ||
               region->first_gfn - ghost.first_gfn < ghost.pages;
    });
    occupy(*region);
    regions_.push_back(std::move(region));
    request_scan();
    return 0;
}

void MemoryMap::occupy(const Region& region) {
    const std::uint64_t end = region.first_gfn + region.pages;
    std::vector<Stretch> left;
    for (const Stretch& gap : vacated_) {
        const std::uint64_t gap_end = gap.first_gfn + gap.pages;
        if (gap.first_gfn < region.first_gfn) {
            left.push_back({gap.first_gfn, std::min(gap_end, region.first_gfn) - gap.first_gfn});
        }
        if (gap_end > end) {
            const std::uint64_t first = std::max(gap.first_gfn, end);
            left.push_back({first, gap_end - first});
        }
    }
    vacated_ = std::move(left);
    is_vacated_ = !vacated_.empty();
}

int MemoryMap::unmap(const mshv::abi::ioctls::MemoryRegion& wanted) {
    const auto region = find(wanted.guest_pfn);
    if (region == nullptr) {
        return -ENOENT;
    }
    if (region->first_gfn != wanted.guest_pfn || region->host != wanted.userspace_address ||
        region->pages != wanted.size / page_size) {
        return -EINVAL;
    }
    for (const auto& [index, slot] : region->windows) {
        engine_.set_slot({.number = slot});
        free_slots_.push_back(slot);
    }
    // The driver unmaps what it has faulted in; the rest stays mapped NO_ACCESS (sheet 1.5).
    for (std::uint64_t window = 0; window < window_count(*region); ++window) {
        if (!region->windows.contains(window)) {
            --unmapped_windows_;
            const std::uint64_t first = region->first_gfn + window * window_pages_;
            if (!ghosts_.empty() && ghosts_.back().first_gfn + ghosts_.back().pages == first) {
                ghosts_.back().pages += pages_in(*region, window);
            } else {
                ghosts_.push_back({first, pages_in(*region, window)});
            }
        }
    }
    vacated_.push_back({region->first_gfn, region->pages});
    is_vacated_ = true;
    ++generation_;
    regions_.remove(region);
    return 0;
}

MemoryMap::RegionPointer MemoryMap::find(std::uint64_t gfn) {
    const auto found =
        std::ranges::find_if(regions_, [gfn](const auto& region) { return region->has(gfn); });
    return found != regions_.end() ? *found : nullptr;
}

std::uint64_t MemoryMap::window_count(const Region& region) const noexcept {
    return (region.pages + window_pages_ - 1) / window_pages_;
}

std::uint64_t MemoryMap::pages_in(const Region& region, std::uint64_t window) const noexcept {
    return std::min(window_pages_, region.pages - window * window_pages_);
}

bool MemoryMap::populate(const Region& region, std::uint64_t window, bool may_wait) const {
    const std::uint64_t host = region.host + window * window_pages_ * page_size;
    const std::uint64_t pages = pages_in(region, window);
    return may_wait ? populate_waiting(host, pages * page_size) == 0
                    : populate_at_once(host, pages);
}

/// With lock_. A new slot for the window, or a change of how it is logged.
int MemoryMap::place(const Region& region, std::uint64_t window, std::uint32_t slot) {
    return engine_.set_slot(
        {.number = slot,
         .first_gfn = region.first_gfn + window * window_pages_,
         .pages = pages_in(region, window),
         .host = region.host + window * window_pages_ * page_size,
         .is_writable = region.is_writable,
         .is_logged = is_tracking_});
}

/// With lock_.
int MemoryMap::map_window(Region& region, std::uint64_t window) {
    if (free_slots_.empty()) {
        if (next_slot_ >= engine_.capabilities().max_slots) {
            return ENOMEM;
        }
        free_slots_.push_back(next_slot_++);
    }
    const std::uint32_t slot = free_slots_.back();
    if (const int error = place(region, window, slot); error != 0) {
        return error;
    }
    free_slots_.pop_back();
    region.windows.emplace(window, slot);
    --unmapped_windows_;
    ++generation_;
    return 0;
}

MemoryFaults::Answer MemoryMap::touch(std::uint64_t gpa, Access access) {
    const std::uint64_t gfn = gpa / page_size;
    std::unique_lock held{lock_};
    const auto region = find(gfn);
    if (region == nullptr) {
        const auto is_in = [gfn](const Stretch& some) {
            return gfn - some.first_gfn < some.pages;
        };
        if (std::ranges::any_of(ghosts_, is_in)) {
            return Answer::intercept;
        }
        return std::ranges::any_of(vacated_, is_in) ? Answer::vacated : Answer::unmapped;
    }
    if ((access == Access::write && !region->is_writable) ||
        (access == Access::execute && !region->is_executable)) {
        return Answer::intercept;
    }
    const std::uint64_t page = gfn - region->first_gfn;
    const std::uint64_t window = page / window_pages_;
    const bool may_wait = personality_ != Personality::v7_2;
    const bool is_mapped = region->windows.contains(window);
    held.unlock(); // what is waited for may need the partition
    const bool is_there = is_mapped ? populate_at_once(region->host + page * page_size, 1)
                                    : populate(*region, window, may_wait);
    if (!is_there) {
        return Answer::intercept;
    }
    held.lock();
    if (find(gfn) != region) {
        return Answer::unmapped;
    }
    if (!region->windows.contains(window) && map_window(*region, window) != 0) {
        return Answer::intercept;
    }
    return Answer::resolved;
}

MemoryMap::Rights MemoryMap::rights(std::uint64_t gpa) {
    const std::scoped_lock held{lock_};
    const auto region = find(gpa / page_size);
    if (region == nullptr) {
        return {};
    }
    const std::uint64_t window = (gpa / page_size - region->first_gfn) / window_pages_;
    const bool is_open = region->windows.contains(window);
    return {.is_mapped = true, .read = is_open, .write = is_open && region->is_writable};
}

std::optional<std::uint64_t> MemoryMap::host_address(std::uint64_t gpa, std::size_t size) {
    const std::scoped_lock held{lock_};
    const auto region = find(gpa / page_size);
    if (region == nullptr || gpa % page_size + size > page_size) {
        return std::nullopt;
    }
    const std::uint64_t page = gpa / page_size - region->first_gfn;
    if (!region->windows.contains(page / window_pages_)) {
        return std::nullopt;
    }
    return region->host + page * page_size + gpa % page_size;
}

bool MemoryMap::read(std::uint64_t gpa, std::span<std::byte> to) {
    const auto host = host_address(gpa, to.size());
    return host && copy_in(to.data(), *host, to.size());
}

bool MemoryMap::write(std::uint64_t gpa, std::span<const std::byte> from) {
    const auto host = host_address(gpa, from.size());
    if (!host || !copy_out(*host, from.data(), from.size())) {
        return false;
    }
    const std::scoped_lock held{lock_};
    const auto region = find(gpa / page_size);
    if (region != nullptr && !region->dirty.empty()) {
        const std::uint64_t page = gpa / page_size - region->first_gfn;
        region->dirty[page / 64] |= std::uint64_t{1} << (page % 64);
    }
    return true;
}

bool MemoryMap::ring(std::uint64_t gpa, std::span<const std::byte> data) {
    return doorbells_.ring(gpa, data);
}

void MemoryMap::map_populated() {
    if (!has_unmapped() || scans_done_ == scans_wanted_) {
        return;
    }
    // A vCPU that finds another at it waits: what it is about to touch may not be mapped yet.
    const std::scoped_lock scanning{scanning_};
    const std::uint64_t wanted = scans_wanted_;
    if (scans_done_ == wanted) {
        return;
    }
    std::unique_lock held{lock_};
    const std::vector<RegionPointer> regions{regions_.begin(), regions_.end()};
    held.unlock();
    for (const auto& region : regions) {
        scan(region);
    }
    scans_done_ = wanted;
}

void MemoryMap::scan(const RegionPointer& region) {
    for (std::uint64_t window = 0; window < window_count(*region); ++window) {
        std::unique_lock held{lock_};
        if (region->windows.contains(window)) {
            continue;
        }
        held.unlock();
        const std::uint64_t host = region->host + window * window_pages_ * page_size;
        // Where all is there, KVM's own faults have nothing to wait for.
        const auto residency = residency_of(host, pages_in(*region, window));
        if (residency == Residency::none ||
            (residency == Residency::some && !populate(*region, window, false))) {
            continue;
        }
        held.lock();
        if (find(region->first_gfn) == region && !region->windows.contains(window)) {
            // No slot left: its first touch will say so.
            map_window(*region, window);
        }
    }
}

} // namespace wherry::vmm::mshvsim
