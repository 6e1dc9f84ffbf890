// SPDX-License-Identifier: Apache-2.0
#include "formats/error_message.hpp"
#include "formats/proto/control.pb.h"
#include "fuzz_target.hpp"
#include "migrate/plan.hpp"

#include <algorithm>
#include <string>
#include <vector>

using namespace wherry;
using formats::invariant;

namespace {

void check_sentences(const std::vector<std::string>& sentences) {
    invariant(sentences.size() <= 16, "no more sentences are taken than there may be");
    for (const std::string& sentence : sentences) {
        invariant(sentence.size() <= formats::error_text_limit, "a sentence is within its limit");
        invariant(formats::sanitised(sentence) == sentence, "a sentence is fit to be shown");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(size, '\0');
    std::ranges::copy_n(data, static_cast<std::ptrdiff_t>(size), bytes.begin());
    formats::proto::PlanAnswer said;
    if (!said.ParseFromString(bytes)) {
        return 0;
    }
    const auto verdict = migrate::from_proto(said);
    check_sentences(verdict.findings);
    check_sentences(verdict.objections);
    check_sentences({verdict.postcopy_obstacle});
    invariant(
        verdict.objections.empty() == said.objections().empty(),
        "a refusal is not lost, and none is made up");
    return 0;
}
