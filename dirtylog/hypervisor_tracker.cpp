// SPDX-License-Identifier: Apache-2.0
#include "dirtylog/hypervisor_tracker.hpp"

#include "formats/error.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace wherry::dirtylog {

using formats::ErrorCode;
using formats::fail;
using formats::Status;

HypervisorTracker::HypervisorTracker(
    vmm::Partition& partition, std::span<const vmm::MemoryRegion> regions)
    : partition_{partition},
      name_{partition.capabilities().name + " dirty log"},
      regions_{regions.begin(), regions.end()} {
    std::uint64_t largest = 0;
    for (const vmm::MemoryRegion& region : regions_) {
        largest = std::max(largest, region.pages.count().value());
    }
    words_.resize(largest / 64 + 1);
}

HypervisorTracker::~HypervisorTracker() {
    // Nobody is left to hear of a failure; the log of a partition that refuses dies with it.
    std::ignore = stop();
}

Status HypervisorTracker::start() {
    if (started_) {
        return fail(ErrorCode::wrong_state, "the dirty log is on already");
    }
    auto status = partition_.start_dirty_log();
    if (!status) {
        return fail(std::move(status).error().during("switching the dirty log on"));
    }
    started_ = true;
    return {};
}

Status HypervisorTracker::collect(DirtySet& into) {
    const auto bitmaps = into.bitmaps();
    formats::invariant(bitmaps.size() == regions_.size(), "a log is read into a set of its RAM");
    const auto everything = [&into](formats::Error error) {
        into.mark_all();
        return fail(std::move(error).during("reading the dirty log (all pages count as dirty)"));
    };
    if (!started_) {
        return everything(formats::Error{ErrorCode::wrong_state, "it is not on"});
    }
    for (std::size_t i = 0; i < regions_.size(); ++i) {
        const std::span words{words_.data(), bitmaps[i].words().size()};
        auto status = partition_.fetch_dirty_log(regions_[i].pages, words);
        if (!status) {
            return everything(std::move(status).error());
        }
        bitmaps[i].merge_words(words);
    }
    return {};
}

Status HypervisorTracker::stop() {
    if (!std::exchange(started_, false)) {
        return {};
    }
    auto status = partition_.stop_dirty_log();
    if (!status) {
        return fail(std::move(status).error().during("switching the dirty log off"));
    }
    return {};
}

} // namespace wherry::dirtylog
