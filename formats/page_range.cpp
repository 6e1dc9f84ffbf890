// SPDX-License-Identifier: Apache-2.0
#include "formats/page_range.hpp"

#include <fmt/format.h>

namespace wherry::formats {

Error PageRange::refusal(Gfn first, PageCount count) {
    if (count == PageCount{0}) {
        return {ErrorCode::invalid_argument, "a run of pages must not be empty"};
    }
    return {
        ErrorCode::invalid_argument,
        fmt::format(
            "{} pages from frame {:#x} reach beyond the 64-bit address space",
            count.value(),
            first.value())};
}

} // namespace wherry::formats
