// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/dirty_log.hpp"

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/properties.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace hypercalls = abi::hypercalls;
namespace ioctls = abi::ioctls;
using formats::ErrorCode;
using formats::fail;
using formats::PageRange;
using formats::Status;

namespace {

constexpr std::uint64_t pages_per_word = 64;
/// The kernel takes a byte for each page of a call.
constexpr std::uint64_t pages_per_call = 0x10000;
static_assert(pages_per_call % pages_per_word == 0);

std::size_t words_for(std::uint64_t pages) {
    return static_cast<std::size_t>((pages + pages_per_word - 1) / pages_per_word);
}

} // namespace

void DirtyLog::cover(std::span<const MemoryRegion> regions) {
    regions_.clear();
    std::ranges::transform(regions, std::back_inserter(regions_), &MemoryRegion::pages);
}

Status DirtyLog::track(std::uint64_t how) const {
    return partition_.set_property(
        abi::properties::gpa_page_access_tracking,
        how,
        how == 0 ? "ending the dirty log" : "starting the dirty log");
}

Status
DirtyLog::sweep(PageRange region, std::uint8_t operation, std::span<std::uint64_t> bitmap) const {
    const std::uint64_t pages = region.count().value();
    for (std::uint64_t at = 0; at < pages; at += pages_per_call) {
        const auto words = bitmap.subspan(static_cast<std::size_t>(at / pages_per_word));
        ioctls::GpapAccessBitmap argument{
            .access_type = ioctls::access_type::dirty,
            .access_op = operation,
            .page_count = std::min(pages_per_call, pages - at),
            .first_gfn = region.first().value() + at,
            .bitmap = reinterpret_cast<std::uintptr_t>(words.data())};
        const auto done = partition_.call(
            ioctls::get_gpap_access_bitmap, &argument, "MSHV_GET_GPAP_ACCESS_BITMAP");
        if (!done) {
            return fail(done.error());
        }
    }
    return {};
}

Status DirtyLog::sweep_all(std::uint8_t operation) const {
    for (const PageRange region : regions_) {
        std::vector<std::uint64_t> ignored(words_for(region.count().value()));
        if (auto done = sweep(region, operation, ignored); !done) {
            return done;
        }
    }
    return {};
}

Status DirtyLog::start() {
    if (is_started_) {
        return fail(ErrorCode::wrong_state, "the dirty log is started already");
    }
    if (auto tracked = track(abi::properties::access_tracking::enable); !tracked) {
        return tracked;
    }
    is_started_ = true;
    // What the bits say right after the start is not defined.
    if (auto cleared = sweep_all(ioctls::access_op::clear); !cleared) {
        auto undone = stop();
        return undone ? std::move(cleared)
                      : fail(std::move(cleared.error())
                                 .during(fmt::format("({} too)", undone.error().text())));
    }
    return {};
}

Status DirtyLog::stop() {
    if (!is_started_) {
        return {};
    }
    if (auto set = sweep_all(ioctls::access_op::set); !set) {
        return set;
    }
    if (auto ended = track(0); !ended) {
        return ended;
    }
    is_started_ = false;
    return {};
}

Status DirtyLog::check(PageRange region, std::span<const std::uint64_t> bitmap) const {
    if (!is_started_) {
        return fail(ErrorCode::wrong_state, "the dirty log is not started");
    }
    if (std::ranges::find(regions_, region) == regions_.end()) {
        return fail(ErrorCode::invalid_argument, "the dirty log is read by whole regions");
    }
    if (bitmap.size() < words_for(region.count().value())) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} words are no room for {} pages", bitmap.size(), region.count().value()));
    }
    return {};
}

Status DirtyLog::fetch(PageRange region, std::span<std::uint64_t> bitmap) {
    if (auto good = check(region, bitmap); !good) {
        return good;
    }
    std::ranges::fill(bitmap, 0);
    return sweep(region, ioctls::access_op::clear, bitmap);
}

Status DirtyLog::peek_accessed(PageRange region, std::span<std::uint64_t> bitmap) const {
    if (auto good = check(region, bitmap); !good) {
        return good;
    }
    // Not the ioctl's no-operation, which Linux 7.2 executes as set.
    std::array<std::uint8_t, hypercalls::max_gpa_access_reps> states{};
    const std::uint64_t pages = region.count().value();
    for (std::uint64_t at = 0; at < pages; at += states.size()) {
        const auto count = std::min<std::uint64_t>(states.size(), pages - at);
        const hypercalls::GetGpaPagesAccessStates input{.first_gfn = region.first().value() + at};
        const auto got = partition_.hypercall(
            {.name = "HvGetGpaPagesAccessStates",
             .code = hypercalls::get_gpa_pages_access_states,
             .input = &input,
             .input_size = sizeof(input),
             .output = states.data(),
             .output_size = static_cast<std::size_t>(count),
             .reps = static_cast<std::uint16_t>(count)});
        if (!got) {
            return got;
        }
        for (std::uint64_t i = 0; i < count; ++i) {
            if ((states[i] & hypercalls::gpa_access_state::accessed) != 0) {
                const std::uint64_t page = at + i;
                bitmap[page / pages_per_word] |= std::uint64_t{1} << (page % pages_per_word);
            }
        }
    }
    return {};
}

} // namespace wherry::vmm::mshv
