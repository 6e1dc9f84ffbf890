// SPDX-License-Identifier: Apache-2.0
#include "formats/touch_order.hpp"
#include "fuzz_target.hpp"

#include <algorithm>

using namespace wherry::formats;

// Input: the order of an image's chunks, as its file is.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    const auto order = decode_touch_order(input);
    if (!order) {
        return 0;
    }
    invariant(order->chunks.size() <= image_sections_limit, "an order is within its limit");
    invariant(
        std::ranges::equal(encode_touch_order(*order), input),
        "what was accepted encodes to the same bytes");
    return 0;
}
