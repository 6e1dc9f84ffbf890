// SPDX-License-Identifier: Apache-2.0
#include "formats/error_message.hpp"

#include "formats/proto/error.pb.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace wherry::formats {

namespace {

constexpr std::string_view cut_mark = "...";

bool is_continuation(char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U;
}

/// Length of the printable UTF-8 character that `text` (not empty) begins with; 0: none.
/// Unicode 15, table 3-7; U+0080 to U+009F are control characters.
std::size_t character_length(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x80) {
        return lead >= 0x20 && lead != 0x7f ? 1 : 0;
    }
    const std::size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                               : lead >= 0xe0 && lead <= 0xef ? 3
                               : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                              : 0;
    if (length == 0 || length > text.size() ||
        !std::ranges::all_of(text.substr(1, length - 1), is_continuation)) {
        return 0;
    }
    const auto second = static_cast<unsigned char>(text[1]);
    const bool is_out_of_range = (lead == 0xc2 && second < 0xa0) || // C1 controls
                                 (lead == 0xe0 && second < 0xa0) || // overlong
                                 (lead == 0xed && second > 0x9f) || // surrogates
                                 (lead == 0xf0 && second < 0x90) || // overlong
                                 (lead == 0xf4 && second > 0x8f);   // beyond U+10FFFF
    return is_out_of_range ? 0 : length;
}

} // namespace

bool is_retryable(ErrorCode code) noexcept {
    return code == ErrorCode::unreachable || code == ErrorCode::connection_lost ||
           code == ErrorCode::timed_out || code == ErrorCode::corrupted ||
           code == ErrorCode::out_of_resources;
}

std::string sanitised(std::string_view text, std::size_t limit) {
    std::string clean;
    clean.reserve(std::min(text.size(), limit));
    // Where to cut so that the mark still fits.
    std::size_t cut = 0;
    while (!text.empty()) {
        const std::size_t length = character_length(text);
        const std::string_view next = length == 0 ? "?" : text.substr(0, length);
        if (clean.size() + next.size() > limit) {
            clean.resize(cut);
            return limit < cut_mark.size() ? clean : clean.append(cut_mark);
        }
        clean += next;
        if (clean.size() + cut_mark.size() <= limit) {
            cut = clean.size();
        }
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return clean;
}

void to_proto(const Error& error, Side sender, proto::Error& into) {
    const Side side = error.side() == Side::local ? sender : error.side();
    into.set_code(static_cast<std::uint32_t>(error.code()));
    into.set_phase(static_cast<std::uint32_t>(error.phase()));
    into.set_side(static_cast<std::uint32_t>(side));
    into.set_text(sanitised(error.text()));
    into.set_retryable(is_retryable(error.code()));
}

ErrorMessage from_proto(const proto::Error& message) {
    std::string text = sanitised(message.text());
    if (text.empty()) {
        text = "the peer gave no reason";
    }
    return ErrorMessage{
        .error = Error{error_code_from(message.code()), std::move(text)}.at(
            phase_from(message.phase()), side_from(message.side())),
        .retryable = message.retryable()};
}

} // namespace wherry::formats
