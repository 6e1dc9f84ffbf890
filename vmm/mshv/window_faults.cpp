// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/window_faults.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

using formats::ErrorCode;
using formats::fail;
using formats::Gfn;
using formats::PageBitmap;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

/// Calls function(part) for the part of each region that `pages` touches, widened to whole windows.
template <typename Function>
void for_each_window(const GuestMemory& memory, PageRange pages, Function&& function) {
    for (const MemoryRegion& region : memory.regions()) {
        const Gfn first = std::max(pages.first(), region.pages.first());
        const Gfn end = std::min(pages.end(), region.pages.end());
        if (first >= end) {
            continue;
        }
        const PageCount from = first - region.pages.first();
        const PageCount last = end - PageCount{1} - region.pages.first();
        for (PageCount at = from - from % window_pages; at <= last; at += window_pages) {
            function(region.pages.part(at, std::min(at + window_pages, region.pages.count())));
        }
    }
}

} // namespace

Result<WindowGate::Outcome> WindowGate::await(Gfn page, const Kick& kick) {
    std::unique_lock held{lock_};
    if (source_ == nullptr) {
        return Outcome::complete;
    }
    const PageRange window = source_->window_of(page);
    const auto is_complete = [&] {
        return !source_->pages_->is_missing(window) && !source_->is_absent(page);
    };
    if (!is_complete()) {
        source_->pages_->want(window);
        changed_.wait(
            held, [&] { return source_ == nullptr || is_complete() || kick.is_requested(); });
        return Outcome::waited;
    }
    // Complete in the file, and perhaps not in the mapping, where the kernel looks.
    if (auto mapped = source_->pages_->map_all(window); !mapped) {
        return fail(std::move(mapped.error()));
    }
    return Outcome::complete;
}

void WindowGate::wake() noexcept {
    const std::scoped_lock held{lock_};
    changed_.notify_all();
}

void WindowGate::set(WindowSource* source) {
    const std::scoped_lock held{lock_};
    source_ = source;
    changed_.notify_all();
}

Result<std::unique_ptr<FaultSource>>
WindowSource::open(GuestMemory& memory, GuestMap& map, WindowGate& gate, bool kernel_pins) {
    auto pages = UserfaultSource::open(memory, window_pages);
    if (!pages) {
        return fail(std::move(pages.error()));
    }
    return std::make_unique<WindowSource>(memory, map, gate, kernel_pins, *std::move(pages));
}

WindowSource::WindowSource(
    GuestMemory& memory,
    GuestMap& map,
    WindowGate& gate,
    bool kernel_pins,
    std::unique_ptr<UserfaultSource> pages)
    : memory_{memory},
      map_{map},
      gate_{gate},
      kernel_pins_{kernel_pins},
      pages_{std::move(pages)} {
    for (const MemoryRegion& region : memory.regions()) {
        const PageBitmap none{region.pages};
        regions_.push_back({.absent = none, .taken = none});
    }
}

WindowSource::~WindowSource() {
    gate_.set(nullptr);
}

PageCount WindowSource::missing() const noexcept {
    const PageCount missing = pages_->missing();
    return missing > PageCount{0} ? missing : PageCount{absent_pages_};
}
std::vector<PageRange> WindowSource::missing_pages() const {
    return pages_->missing_pages();
}
std::vector<PageRange> WindowSource::wanted_pages() const {
    return pages_->wanted_pages();
}

PageRange WindowSource::window_of(Gfn page) const {
    std::optional<PageRange> found;
    auto one = PageRange::make(page, PageCount{1});
    formats::invariant(one.has_value(), "a page is a run of pages");
    for_each_window(memory_, *one, [&](PageRange window) { found = window; });
    formats::invariant(found.has_value(), "who waits for a page waits for RAM");
    return *found;
}

/// With the gate's lock.
bool WindowSource::is_absent(Gfn page) const {
    return std::ranges::any_of(regions_, [page](const Region& region) {
        return region.absent.pages().contains(page) && region.absent.test(page);
    });
}

Status WindowSource::arm(
    std::span<const PageBitmap> missing, FaultListener& listener, MemoryBefore before) {
    if (auto armed = pages_->arm(missing, listener, before); !armed) {
        return armed;
    }
    if (kernel_pins_) {
        if (auto left_out = leave_out(missing); !left_out) {
            return left_out;
        }
    }
    gate_.set(this);
    return {};
}

/// Chunks with missing pages in them lose their mapping; what shared a piece with them gets it
/// back.
Status WindowSource::leave_out(std::span<const PageBitmap> missing) {
    for (std::size_t number = 0; number < regions_.size(); ++number) {
        const PageRange all = missing[number].pages();
        Gfn at = all.first();
        while (const auto run = missing[number].next_run(at, PageCount{1})) {
            const PageRange window = window_of(run->first());
            regions_[number].absent.set(window);
            absent_pages_ += window.count().value();
            at = window.end();
        }
    }
    for (const Region& region : regions_) {
        const PageRange all = region.absent.pages();
        for (auto run = region.absent.next_run(all.first(), all.count()); run;
             run = region.absent.next_run(run->end(), all.count())) {
            const auto gone = map_.unmap(*run);
            if (!gone) {
                return fail(gone.error());
            }
            for (const PageRange piece : *gone) {
                if (auto mapped = map_stretches(piece); !mapped) {
                    return mapped;
                }
            }
        }
    }
    return {};
}

/// Maps what is not absent of a piece that has lost its mapping.
Status WindowSource::map_stretches(PageRange piece) {
    const auto region = std::ranges::find_if(
        regions_, [piece](const Region& one) { return one.absent.pages().contains(piece); });
    formats::invariant(region != regions_.end(), "what was mapped is RAM");
    Gfn at = piece.first();
    while (at < piece.end()) {
        const auto absent = region->absent.next_run(at, piece.end() - at);
        const Gfn end = absent ? std::min(absent->first(), piece.end()) : piece.end();
        if (at < end) {
            const PageRange stretch = piece.part(at - piece.first(), end - piece.first());
            if (auto mapped = map_.map(stretch); !mapped) {
                return mapped;
            }
        }
        at = absent ? absent->end() : end;
    }
    return {};
}

Result<std::vector<PageRange>> WindowSource::narrow(std::span<const PageBitmap> missing) {
    auto left = pages_->narrow(missing);
    for (const MemoryRegion& region : memory_.regions()) {
        if (auto settled = settle(region.pages, PageCount{0}); left && !settled) {
            left = fail(std::move(settled).error());
        }
    }
    return left;
}

Result<PageCount> WindowSource::place(PageRange pages, std::span<const std::byte> bytes) {
    return settle(pages, pages_->place(pages, bytes));
}

Result<PageCount> WindowSource::place_zero(PageRange pages) {
    return settle(pages, pages_->place_zero(pages));
}

/// vCPUs look again; before, what has become complete is mapped.
Result<PageCount> WindowSource::settle(PageRange pages, Result<PageCount> placed) {
    if (placed && kernel_pins_) {
        if (auto mapped = map_complete(pages); !mapped) {
            return fail(std::move(mapped.error()));
        }
    }
    gate_.wake();
    return placed;
}

Status WindowSource::map_complete(PageRange pages) {
    Status outcome;
    for_each_window(memory_, pages, [&](PageRange window) {
        if (!outcome || pages_->is_missing(window)) {
            return;
        }
        const auto region = std::ranges::find_if(
            regions_, [window](const Region& one) { return one.absent.pages().contains(window); });
        {
            const std::scoped_lock held{gate_.lock_};
            if (!region->absent.test(window.first()) || region->taken.test(window.first())) {
                return;
            }
            region->taken.set(window);
        }
        outcome = pages_->map_all(window); // so that pinning finds it without faults
        if (outcome) {
            outcome = map_.map(window);
        }
        const std::scoped_lock held{gate_.lock_};
        region->taken.clear(window);
        if (outcome) {
            region->absent.clear(window);
            absent_pages_ -= window.count().value();
        }
    });
    return outcome;
}

Status WindowSource::disarm() {
    if (pages_->missing() == PageCount{0} && absent_pages_ > 0) {
        return fail(ErrorCode::wrong_state, "pages that have come are not mapped yet");
    }
    if (auto disarmed = pages_->disarm(); !disarmed) {
        return disarmed;
    }
    gate_.set(nullptr);
    return {};
}

} // namespace wherry::vmm::mshv
