// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace wherry::migrate {

/// Counts how often a VM has changed hands, or was to. Only grows; part of every message of the
/// hand-over and of every record: see docs/design.md, "Ownership".
enum class Epoch : std::uint64_t {};
constexpr Epoch next(Epoch epoch) noexcept {
    return Epoch{static_cast<std::uint64_t>(epoch) + 1};
}
/// Of a VM that was offered as `offered` and stayed where it was.
constexpr Epoch taken_back(Epoch offered) noexcept {
    return next(offered);
}

} // namespace wherry::migrate
