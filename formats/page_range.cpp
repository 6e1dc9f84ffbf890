// SPDX-License-Identifier: Apache-2.0
#include "formats/page_range.hpp"

#include <fmt/format.h>

namespace wherry::formats {

Result<PageRange> PageRange::make(Gfn first, PageCount count) {
    constexpr std::uint64_t frames_in_address_space = std::uint64_t{1} << 52U;
    if (count == PageCount{0}) {
        return fail(ErrorCode::invalid_argument, "a run of pages must not be empty");
    }
    if (first.value() >= frames_in_address_space ||
        count.value() > frames_in_address_space - first.value()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} pages from frame {:#x} reach beyond the 64-bit address space",
                count.value(),
                first.value()));
    }
    return PageRange{first, count};
}

} // namespace wherry::formats
