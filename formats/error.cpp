// SPDX-License-Identifier: Apache-2.0
#include "formats/error.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace wherry::formats {

std::string_view name_of(ErrorCode code) noexcept {
    switch (code) {
    case ErrorCode::internal:
        return "internal";
    case ErrorCode::invalid_argument:
        return "invalid_argument";
    case ErrorCode::not_found:
        return "not_found";
    case ErrorCode::already_exists:
        return "already_exists";
    case ErrorCode::wrong_state:
        return "wrong_state";
    case ErrorCode::permission:
        return "permission";
    case ErrorCode::out_of_resources:
        return "out_of_resources";
    case ErrorCode::io:
        return "io";
    case ErrorCode::unsupported:
        return "unsupported";
    case ErrorCode::guest:
        return "guest";
    case ErrorCode::unreachable:
        return "unreachable";
    case ErrorCode::connection_lost:
        return "connection_lost";
    case ErrorCode::timed_out:
        return "timed_out";
    case ErrorCode::authentication:
        return "authentication";
    case ErrorCode::protocol:
        return "protocol";
    case ErrorCode::version_mismatch:
        return "version_mismatch";
    case ErrorCode::corrupted:
        return "corrupted";
    case ErrorCode::incompatible:
        return "incompatible";
    case ErrorCode::refused:
        return "refused";
    case ErrorCode::cancelled:
        return "cancelled";
    case ErrorCode::in_doubt:
        return "in_doubt";
    }
    return "internal";
}

ErrorCode error_code_from(std::uint32_t number) noexcept {
    const auto candidate = static_cast<ErrorCode>(number);
    const bool known = number <= UINT16_MAX &&
                       (candidate == ErrorCode::internal || name_of(candidate) != "internal");
    return known ? candidate : ErrorCode::internal;
}

std::string_view name_of(Phase phase) noexcept {
    switch (phase) {
    case Phase::none:
        return "none";
    case Phase::connect:
        return "connect";
    case Phase::plan:
        return "plan";
    case Phase::precopy:
        return "precopy";
    case Phase::stop_and_copy:
        return "stop_and_copy";
    case Phase::state:
        return "state";
    case Phase::handover:
        return "handover";
    case Phase::done:
        return "done";
    case Phase::postcopy:
        return "postcopy";
    }
    return "none";
}

Phase phase_from(std::uint32_t number) noexcept {
    return number <= static_cast<std::uint32_t>(Phase::postcopy) ? static_cast<Phase>(number)
                                                                 : Phase::none;
}

std::string_view name_of(Side side) noexcept {
    switch (side) {
    case Side::local:
        return "local";
    case Side::source:
        return "source";
    case Side::destination:
        return "destination";
    }
    return "local";
}

Side side_from(std::uint32_t number) noexcept {
    return number <= static_cast<std::uint32_t>(Side::destination) ? static_cast<Side>(number)
                                                                   : Side::local;
}

Error::Error(ErrorCode code, std::string text, SourceLine origin)
    : code_{code},
      text_{std::move(text)},
      origin_{origin} {}

Error Error::during(std::string_view activity) && {
    text_ = fmt::format("{}: {}", activity, text_);
    return std::move(*this);
}

Error Error::at(Phase phase, Side side) && {
    if (phase_ == Phase::none) {
        phase_ = phase;
    }
    if (side_ == Side::local) {
        side_ = side;
    }
    return std::move(*this);
}

namespace {

ErrorCode code_for_errno(int number) {
    switch (number) {
    case ENOENT:
    case ESRCH:
        return ErrorCode::not_found;
    case EEXIST:
    case EADDRINUSE:
        return ErrorCode::already_exists;
    case EACCES:
    case EPERM:
        return ErrorCode::permission;
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
        return ErrorCode::out_of_resources;
    case ENOTTY:
    case ENOSYS:
    case EOPNOTSUPP:
        return ErrorCode::unsupported;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return ErrorCode::unreachable;
    case ECONNRESET:
    case EPIPE:
        return ErrorCode::connection_lost;
    case ETIMEDOUT:
        return ErrorCode::timed_out;
    default:
        return ErrorCode::io;
    }
}

} // namespace

Error system_error(int number, std::string_view what, SourceLine origin) {
    return Error{
        code_for_errno(number),
        fmt::format("{}: {}", what, std::generic_category().message(number)),
        origin};
}

void abort_for_broken(std::string_view rule, SourceLine origin) {
    fmt::print(stderr, "wherry: broken invariant: {} ({}:{})\n", rule, origin.file, origin.line);
    std::fflush(stderr);
    std::abort();
}

} // namespace wherry::formats
