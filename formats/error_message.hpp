// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace wherry::formats {

namespace proto {
class Error; // formats/proto/error.pb.h
}

/// The longest text of an Error on the wire, in bytes.
inline constexpr std::size_t error_text_limit = 1024;

/// Whether the same attempt may succeed later without anyone changing anything.
bool is_retryable(ErrorCode code) noexcept;

/// `text` fit to be shown on a terminal and stored in a log: valid UTF-8 of at most `limit` bytes
/// in one line; control characters and broken sequences become '?'. What was cut ends in "...".
std::string sanitised(std::string_view text, std::size_t limit = error_text_limit);

/// What the peer is told. An error that arose here (Side::local) is said to be `sender`'s.
void to_proto(const Error& error, Side sender, proto::Error& into);

/// What the peer said. Nothing in it is trusted: unknown numbers become `internal`, `none`,
/// `local`; the text is sanitised.
struct ErrorMessage {
    Error error;
    bool retryable;
};
ErrorMessage from_proto(const proto::Error& message);

} // namespace wherry::formats
