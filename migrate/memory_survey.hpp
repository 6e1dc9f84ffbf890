// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "migrate/policy.hpp"
#include "vmm/guest_memory.hpp"

namespace wherry::migrate {

/// What a first pass would find in a guest's memory, by looking at some of it.
struct MemorySurvey {
    /// Of the pages that were ever touched: those to be sent, and those that are zero.
    formats::PageCount raw_pages, zero_pages;
    /// How fast one core finds a page to be zero, and gets another ready to be encrypted.
    BytesPerSecond zero_rate, raw_rate;
};

/// Looks at up to 32 MiB, spread evenly over what was touched. Blocks for some 10 ms.
formats::Result<MemorySurvey> survey_memory(const vmm::GuestMemory& memory);

} // namespace wherry::migrate
