// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"
#include "formats/proto/api.pb.h"
#include "formats/result.hpp"

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

namespace wherry::tools {

enum class JsonLayout : std::uint8_t { one_line, indented };

/// Protobuf's own JSON mapping, field names as in the schema, fields at their default included.
std::string to_json(const google::protobuf::Message& message, JsonLayout layout);

/// Unknown fields are refused: a misspelt option must not be ignored.
formats::Status from_json(std::string_view text, google::protobuf::Message& into);

template <typename Message>
formats::Result<Message> message_from_json(const std::string& text) {
    Message message;
    auto parsed = from_json(text, message);
    if (!parsed) {
        return formats::fail(std::move(parsed).error());
    }
    return message;
}

/// Between Error and its form in the API.
api::Failure failure_from(const formats::Error& error);
formats::Error error_from(const api::Failure& failure);

} // namespace wherry::tools
