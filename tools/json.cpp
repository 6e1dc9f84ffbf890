// SPDX-License-Identifier: Apache-2.0
#include "tools/json.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

namespace wherry::tools {

using formats::ErrorCode;

std::string to_json(const google::protobuf::Message& message, JsonLayout layout) {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = layout == JsonLayout::indented;
    options.always_print_primitive_fields = true;
    options.preserve_proto_field_names = true;
    std::string text;
    const auto printed = google::protobuf::util::MessageToJsonString(message, &text, options);
    formats::invariant(printed.ok(), "every message of ours has a JSON form");
    return text;
}

formats::Status from_json(std::string_view text, google::protobuf::Message& into) {
    const auto parsed =
        google::protobuf::util::JsonStringToMessage({text.data(), text.size()}, &into);
    if (!parsed.ok()) {
        return formats::fail(
            ErrorCode::invalid_argument,
            fmt::format("not the JSON that was wanted here: {}", parsed.ToString()));
    }
    return {};
}

api::Failure failure_from(const formats::Error& error) {
    api::Failure failure;
    failure.set_code(std::string{name_of(error.code())});
    failure.set_phase(std::string{name_of(error.phase())});
    failure.set_side(std::string{name_of(error.side())});
    failure.set_text(error.text());
    return failure;
}

namespace {

/// The enumerator among the first `count` numbers whose name is `text`; the first where none is.
template <typename Enum>
Enum named(std::string_view text, Enum (*from)(std::uint32_t)) {
    constexpr std::uint32_t beyond_all = 256;
    for (std::uint32_t number = 0; number < beyond_all; ++number) {
        if (const auto candidate = from(number); name_of(candidate) == text) {
            return candidate;
        }
    }
    return from(0);
}

ErrorCode code_of(std::uint32_t number) {
    return formats::error_code_from(number);
}
formats::Phase phase_of(std::uint32_t number) {
    return formats::phase_from(number);
}
formats::Side side_of(std::uint32_t number) {
    return formats::side_from(number);
}

} // namespace

formats::Error error_from(const api::Failure& failure) {
    return formats::Error{named(failure.code(), code_of), failure.text()}.at(
        named(failure.phase(), phase_of), named(failure.side(), side_of));
}

} // namespace wherry::tools
