// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"

#include <cstddef>
#include <span>

namespace wherry::migrate {

/// Where arriving pages go. Any thread, several at once; a page is placed by one at a time.
class PagePlacement {
public:
    PagePlacement() = default;
    PagePlacement(const PagePlacement&) = delete;
    PagePlacement& operator=(const PagePlacement&) = delete;
    /// `bytes` holds exactly `pages`, which lie in one region of RAM.
    virtual formats::Status place(formats::PageRange pages, std::span<const std::byte> bytes) = 0;
    virtual formats::Status place_zero(formats::PageRange pages) = 0;

protected:
    ~PagePlacement() = default;
};

} // namespace wherry::migrate
