// SPDX-License-Identifier: Apache-2.0
#include "formats/page_set.hpp"
#include "fuzz_target.hpp"

#include <algorithm>

using namespace wherry::formats;

// Input: the payload of a page set.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    const auto set = decode_page_set(input);
    if (!set) {
        return 0;
    }
    invariant(set->pages.count() <= pages_per_set, "a page set is within its limit");
    const auto again = encode_page_set(set->pages, set->words);
    invariant(std::ranges::equal(again, input), "what was accepted encodes to the same bytes");
    return 0;
}
