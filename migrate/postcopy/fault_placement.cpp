// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/fault_placement.hpp"

namespace wherry::migrate {

using formats::PageRange;
using formats::Status;

Status FaultPlacement::settle(PageRange pages, const formats::Result<formats::PageCount>& placed) {
    if (!placed) {
        return formats::fail(placed.error());
    }
    repeated_.fetch_add((pages.count() - *placed).value());
    queue_.arrived(pages);
    if (source_.missing() == formats::PageCount{0} && !is_complete_.exchange(true)) {
        on_complete_();
    }
    return {};
}

Status FaultPlacement::place(PageRange pages, std::span<const std::byte> bytes) {
    return settle(pages, source_.place(pages, bytes));
}

Status FaultPlacement::place_zero(PageRange pages) {
    return settle(pages, source_.place_zero(pages));
}

} // namespace wherry::migrate
