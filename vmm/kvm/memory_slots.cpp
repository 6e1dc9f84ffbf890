// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/memory_slots.hpp"

#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/system.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::PageRange;
using formats::Status;

namespace {
constexpr std::uint64_t pages_per_word = 64;
/// Of 64 MiB: the kernel holds a lock meanwhile that every fault of a vCPU needs. Protecting 4 GiB
/// at once kept a guest waiting for up to 35 ms.
constexpr std::uint64_t words_per_clear = 256;

std::uint32_t number(std::size_t index) {
    return static_cast<std::uint32_t>(index);
}
} // namespace

Status MemorySlots::set(std::uint32_t slot, std::uint32_t flags) {
    const MemoryRegion& region = regions_[slot];
    kvm_userspace_memory_region wanted{
        .slot = slot,
        .flags = flags,
        .guest_phys_addr = formats::gpa_of(region.pages.first()).value(),
        .memory_size = formats::bytes_of(region.pages.count()).value(),
        .userspace_addr = reinterpret_cast<std::uintptr_t>(region.host)};
    const auto done = call(vm_, KVM_SET_USER_MEMORY_REGION, &wanted, "KVM_SET_USER_MEMORY_REGION");
    return done ? Status{} : fail(done.error());
}

Status MemorySlots::set_all(std::uint32_t flags) {
    for (std::size_t slot = 0; slot < regions_.size(); ++slot) {
        if (auto done = set(number(slot), flags); !done) {
            return done;
        }
    }
    return {};
}

Status MemorySlots::map(const GuestMemory& memory) {
    if (!regions_.empty()) {
        return fail(ErrorCode::wrong_state, "the partition's memory is mapped already");
    }
    regions_.assign(memory.regions().begin(), memory.regions().end());
    return set_all(0);
}

Status MemorySlots::start_log() {
    if (logging_) {
        return fail(ErrorCode::wrong_state, "the dirty log is started already");
    }
    auto started = set_all(KVM_MEM_LOG_DIRTY_PAGES);
    if (started && clearing_ == LogClearing::apart_from_the_start) {
        started = protect_all();
    }
    if (!started) {
        // Half a log is none.
        auto undone = set_all(0);
        return undone ? std::move(started)
                      : fail(std::move(started.error())
                                 .during(fmt::format("({} too)", undone.error().text())));
    }
    logging_ = true;
    return {};
}

/// What is written until then is before the log's start.
Status MemorySlots::protect_all() {
    for (std::size_t slot = 0; slot < regions_.size(); ++slot) {
        const std::uint64_t pages = regions_[slot].pages.count().value();
        std::vector<std::uint64_t> all(pages / pages_per_word, ~std::uint64_t{0});
        if (auto cleared = clear(number(slot), all); !cleared) {
            return cleared;
        }
    }
    return {};
}

/// Whole words: regions are multiples of 2 MiB.
Status MemorySlots::clear(std::uint32_t slot, std::span<std::uint64_t> bitmap) {
    for (std::uint64_t at = 0; at < bitmap.size(); at += words_per_clear) {
        const auto part = bitmap.subspan(at, std::min(words_per_clear, bitmap.size() - at));
        if (std::ranges::all_of(part, [](auto word) { return word == 0; })) {
            continue;
        }
        kvm_clear_dirty_log clear{};
        clear.slot = slot;
        clear.num_pages = static_cast<std::uint32_t>(part.size() * pages_per_word);
        clear.first_page = at * pages_per_word;
        clear.dirty_bitmap = part.data();
        const auto cleared = call(vm_, KVM_CLEAR_DIRTY_LOG, &clear, "KVM_CLEAR_DIRTY_LOG");
        if (!cleared) {
            return fail(cleared.error());
        }
    }
    return {};
}

Status MemorySlots::stop_log() {
    if (!logging_) {
        return {};
    }
    if (auto stopped = set_all(0); !stopped) {
        return stopped;
    }
    logging_ = false;
    return {};
}

Status MemorySlots::fetch(PageRange region, std::span<std::uint64_t> bitmap) {
    if (!logging_) {
        return fail(ErrorCode::wrong_state, "the dirty log is not started");
    }
    const auto found = std::ranges::find(regions_, region, &MemoryRegion::pages);
    if (found == regions_.end()) {
        return fail(ErrorCode::invalid_argument, "the dirty log is read by whole regions");
    }
    const std::uint64_t pages = region.count().value();
    if (bitmap.size() < (pages + pages_per_word - 1) / pages_per_word) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} words are no room for {} pages", bitmap.size(), pages));
    }
    std::ranges::fill(bitmap, 0);
    const auto slot = number(static_cast<std::size_t>(found - regions_.begin()));
    kvm_dirty_log log{};
    log.slot = slot;
    log.dirty_bitmap = bitmap.data();
    if (const auto got = call(vm_, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG"); !got) {
        return fail(got.error());
    }
    return clearing_ == LogClearing::by_reading ? Status{}
                                                : clear(slot, bitmap.first(pages / pages_per_word));
}

} // namespace wherry::vmm::kvm
