// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/x86/cpu_state.hpp"

#include <expected>
#include <utility>
#include <variant>

namespace wherry::vmm::x86 {

/// Why an instruction goes no further: the guest gets an exception, or the emulator gives up.
using Stop = std::variant<Exception, formats::Error>;
template <typename T>
using Step = std::expected<T, Stop>;

/// `return stop(failed);` hands on why a step of another type ended.
template <typename T>
std::unexpected<Stop> stop(Step<T>& failed) {
    return std::unexpected{std::move(failed.error())};
}
inline std::unexpected<Stop> stop(Exception exception) {
    return std::unexpected{Stop{exception}};
}
inline std::unexpected<Stop> stop(formats::Error error) {
    return std::unexpected{Stop{std::move(error)}};
}

} // namespace wherry::vmm::x86
