// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/memory_map.hpp"

#include <algorithm>

/// The hypervisor's log of accesses to guest memory. KVM tells of writes only: a page counts as
/// accessed when it was written, or its access bit set.
namespace wherry::vmm::mshvsim {

namespace status = mshv::abi::status;
namespace flag = mshv::abi::hypercalls::gpa_access_flags;
namespace state = mshv::abi::hypercalls::gpa_access_state;

namespace {

bool test(const std::vector<std::uint64_t>& bits, std::uint64_t page) {
    return (bits[page / 64] >> (page % 64) & 1U) != 0;
}

void change(std::vector<std::uint64_t>& bits, std::uint64_t page, bool set, bool clear) {
    const std::uint64_t bit = std::uint64_t{1} << (page % 64);
    if (clear) {
        bits[page / 64] &= ~bit;
    }
    if (set) {
        bits[page / 64] |= bit;
    }
}

bool are_all_set(const std::vector<std::uint64_t>& bits, std::uint64_t pages) {
    for (std::uint64_t word = 0; word < bits.size(); ++word) {
        const std::uint64_t used = std::min<std::uint64_t>(64, pages - word * 64);
        const std::uint64_t unused = used == 64 ? 0 : ~std::uint64_t{0} << used;
        if ((bits[word] | unused) != ~std::uint64_t{0}) {
            return false;
        }
    }
    return true;
}

} // namespace

std::uint16_t MemoryMap::set_tracking(bool enabled) {
    const std::scoped_lock held{lock_};
    if (enabled == is_tracking_) {
        return status::success;
    }
    // Sheet 9.5: disabling without a SET pass fails; how is not known.
    if (!enabled && std::ranges::any_of(regions_, [](const auto& region) {
            return !are_all_set(region->dirty, region->pages);
        })) {
        return status::operation_denied;
    }
    is_tracking_ = enabled;
    for (const auto& region : regions_) {
        // What a fresh log says is unspecified: this one calls everything dirty.
        region->dirty.assign(enabled ? (region->pages + 63) / 64 : 0, ~std::uint64_t{0});
        region->accessed = region->dirty;
        for (const auto& [window, slot] : region->windows) {
            if (place(*region, window, slot) != 0) {
                return status::insufficient_memory;
            }
        }
    }
    return status::success;
}

/// With lock_. Merges what the engine logged in these pages of the region.
void MemoryMap::harvest(Region& region, std::uint64_t first_page, std::uint64_t pages) {
    std::vector<std::uint64_t> log;
    for (std::uint64_t window = first_page / window_pages_;
         window <= (first_page + pages - 1) / window_pages_;
         ++window) {
        const auto mapped = region.windows.find(window);
        if (mapped == region.windows.end()) {
            continue;
        }
        log.assign((pages_in(region, window) + 63) / 64, 0);
        if (!engine_.fetch_log(mapped->second, log)) {
            std::ranges::fill(log, ~std::uint64_t{0});
        }
        const std::uint64_t first_word = window * window_pages_ / 64;
        for (std::uint64_t word = 0; word < log.size(); ++word) {
            region.dirty[first_word + word] |= log[word];
            region.accessed[first_word + word] |= log[word];
        }
    }
}

std::uint16_t MemoryMap::access_states(
    std::uint64_t first_gfn, std::uint64_t flags, std::span<std::uint8_t> states) {
    const std::scoped_lock held{lock_};
    if (!is_tracking_) { // sheet 9.3: not known
        return status::invalid_partition_state;
    }
    std::uint64_t done = 0;
    while (done < states.size()) {
        const auto region = find(first_gfn + done);
        if (region == nullptr) {
            return status::invalid_parameter;
        }
        const std::uint64_t first = first_gfn + done - region->first_gfn;
        const std::uint64_t pages =
            std::min<std::uint64_t>(states.size() - done, region->pages - first);
        harvest(*region, first, pages);
        for (std::uint64_t page = first; page < first + pages; ++page, ++done) {
            const bool dirty = test(region->dirty, page);
            const bool accessed = dirty || test(region->accessed, page);
            states[done] = static_cast<std::uint8_t>(
                (accessed ? state::accessed : 0U) | (dirty ? state::dirty : 0U));
            change(
                region->dirty,
                page,
                (flags & flag::set_dirty) != 0,
                (flags & flag::clear_dirty) != 0);
            change(
                region->accessed,
                page,
                (flags & flag::set_accessed) != 0,
                (flags & flag::clear_accessed) != 0);
        }
    }
    return status::success;
}

} // namespace wherry::vmm::mshvsim
