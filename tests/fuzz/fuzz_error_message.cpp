// SPDX-License-Identifier: Apache-2.0
#include "formats/error_message.hpp"
#include "formats/proto/error.pb.h"
#include "fuzz_target.hpp"

#include <algorithm>
#include <string>

using namespace wherry::formats;

namespace {

void check(const std::string& text, std::size_t limit) {
    invariant(text.size() <= limit, "a text is within its limit");
    invariant(
        std::ranges::none_of(
            text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }),
        "a text holds no control characters");
    invariant(sanitised(text, limit) == text, "a clean text stays as it is");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string text(size, '\0');
    std::ranges::copy_n(data, static_cast<std::ptrdiff_t>(size), text.begin());
    check(sanitised(text), error_text_limit);
    check(sanitised(text, 7), 7);
    proto::Error message;
    if (message.ParseFromString(text)) {
        check(from_proto(message).error.text(), error_text_limit);
    }
    return 0;
}
