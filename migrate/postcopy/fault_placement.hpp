// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/page_placement.hpp"
#include "migrate/postcopy/fault_queue.hpp"
#include "vmm/fault_source.hpp"

#include <atomic>
#include <functional>
#include <utility>

namespace wherry::migrate {

/// Places the missing pages of a guest that runs. One rule settles all races between pushed pages,
/// answers to faults and pages that are sent again after a lost connection: a page that is there
/// stays as it is, for the guest may have written it since.
class FaultPlacement final : public PagePlacement {
public:
    /// `source` and `queue` outlive it. `on_complete` is called once, on whatever thread placed the
    /// last page.
    FaultPlacement(vmm::FaultSource& source, FaultQueue& queue, std::function<void()> on_complete)
        : source_{source},
          queue_{queue},
          on_complete_{std::move(on_complete)} {}

    formats::Status place(formats::PageRange pages, std::span<const std::byte> bytes) override;
    formats::Status place_zero(formats::PageRange pages) override;

    /// Pages that came and were there already.
    [[nodiscard]] formats::PageCount repeated() const noexcept {
        return formats::PageCount{repeated_.load()};
    }

private:
    formats::Status
    settle(formats::PageRange pages, const formats::Result<formats::PageCount>& placed);

    vmm::FaultSource& source_;
    FaultQueue& queue_;
    std::function<void()> on_complete_;
    std::atomic<bool> is_complete_ = false;
    std::atomic<std::uint64_t> repeated_ = 0;
};

} // namespace wherry::migrate
