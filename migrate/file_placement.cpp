// SPDX-License-Identifier: Apache-2.0
#include "migrate/file_placement.hpp"

#include <algorithm>
#include <cerrno>

#include <unistd.h>

namespace wherry::migrate {

formats::Status FilePlacement::place(formats::PageRange pages, std::span<const std::byte> bytes) {
    const auto regions = memory_.regions();
    const auto region = std::ranges::find_if(
        regions, [&](const vmm::MemoryRegion& each) { return each.pages.contains(pages); });
    formats::invariant(region != regions.end(), "pages that are placed are RAM");
    const auto into_region = formats::bytes_of(pages.first() - region->pages.first());
    auto at = static_cast<off_t>((region->file_offset + into_region).value());
    while (!bytes.empty()) {
        const ssize_t written = ::pwrite(memory_.file(), bytes.data(), bytes.size(), at);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return formats::fail(formats::system_error(
                written < 0 ? errno : ENOSPC, "placing pages in the VM's memory"));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
        at += written;
    }
    return {};
}

formats::Status FilePlacement::place_zero(formats::PageRange pages) {
    return memory_.zero(pages);
}

} // namespace wherry::migrate
