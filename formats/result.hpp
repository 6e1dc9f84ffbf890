// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/error.hpp"

#include <expected>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

namespace wherry::formats {

/// Everything the outside world can make fail returns one of these.
template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// `return fail(ErrorCode::io, "text");` in any function that returns a Result.
inline std::unexpected<Error>
fail(ErrorCode code, std::string text, SourceLine origin = SourceLine::here()) {
    return std::unexpected{Error{code, std::move(text), origin}};
}
inline std::unexpected<Error> fail(Error error) {
    return std::unexpected{std::move(error)};
}

/// What `call` makes of the value, or the error as it is: std::expected's and_then, which the
/// oldest standard library that we build with does not have.
template <typename T, typename Call>
auto then(Result<T> first, Call&& call) {
    if constexpr (std::is_void_v<T>) {
        using Next = std::invoke_result_t<Call>;
        return first ? std::invoke(std::forward<Call>(call)) : Next{fail(std::move(first).error())};
    } else {
        using Next = std::invoke_result_t<Call, T>;
        return first ? std::invoke(std::forward<Call>(call), *std::move(first))
                     : Next{fail(std::move(first).error())};
    }
}

} // namespace wherry::formats
