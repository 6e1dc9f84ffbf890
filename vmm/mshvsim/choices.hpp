// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace wherry::vmm::mshvsim {

/// Whose /dev/mshv is imitated: what kernels do differently with guest memory (README.md).
enum class Personality : std::uint8_t {
    v6_18, ///< guest memory is pinned when it is mapped; host addresses may not overlap
    v7_2,  ///< memory is mapped at first touch; a page that userfaultfd holds back is an intercept
    v7_3,  ///< memory is mapped at first touch; a page that userfaultfd holds back is waited for
};
/// What runs the guest.
enum class EngineChoice : std::uint8_t { automatic, kvm, soft };

// In the order of the enumerators.
inline constexpr std::array<std::string_view, 3> personality_names{"6.18", "7.2", "7.3"};
inline constexpr std::array<std::string_view, 3> engine_names{"auto", "kvm", "soft"};

template <typename Choice, std::size_t Count>
constexpr std::optional<Choice>
choice_from(const std::array<std::string_view, Count>& names, std::string_view name) {
    const auto found = std::ranges::find(names, name);
    return found != names.end() ? std::optional{static_cast<Choice>(found - names.begin())}
                                : std::nullopt;
}
constexpr std::optional<Personality> personality_from(std::string_view name) {
    return choice_from<Personality>(personality_names, name);
}
constexpr std::optional<EngineChoice> engine_from(std::string_view name) {
    return choice_from<EngineChoice>(engine_names, name);
}

} // namespace wherry::vmm::mshvsim
