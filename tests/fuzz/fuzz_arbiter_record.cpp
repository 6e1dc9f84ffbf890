// SPDX-License-Identifier: Apache-2.0
#include "fuzz_target.hpp"
#include "migrate/ownership/arbiter.hpp"

using namespace wherry::migrate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    if (const auto record = record_from_arbiter_text(text)) {
        bool is_written = false;
        for (const Asker asker : {Asker::source, Asker::destination, Asker::fenced_source}) {
            is_written = is_written || arbiter_text(*record, asker) == text;
        }
        wherry::formats::invariant(is_written, "an accepted record is one that wherry writes");
    }
    return 0;
}
