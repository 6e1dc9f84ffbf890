// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace wherry::migrate {

/// Which host may run the guest. `undetermined` is a legal end: this side cannot know, runs
/// nothing, and no code turns it into a guess.
enum class Custody : std::uint8_t { source, destination, undetermined };
std::string_view name_of(Custody custody) noexcept;

/// Which side a person decided to keep.
enum class Keep : std::uint8_t { source, destination };
/// Who has the VM then.
constexpr Custody custody_of(Keep keep) noexcept {
    return keep == Keep::source ? Custody::source : Custody::destination;
}

} // namespace wherry::migrate
