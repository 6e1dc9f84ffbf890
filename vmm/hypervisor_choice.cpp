// SPDX-License-Identifier: Apache-2.0
#include "vmm/hypervisor_choice.hpp"

#include <array>
#include <ranges>
#include <vector>

#include <fmt/format.h>

namespace wherry::vmm {

using Kind = HypervisorChoice::Kind;

namespace {

// In the order of the enumerators.
constexpr std::array<std::string_view, 5> kind_names{"auto", "mshv", "mshvsim", "kvm", "soft"};

template <typename Enumerator>
constexpr std::size_t place(Enumerator of) {
    return static_cast<std::size_t>(of);
}

} // namespace

std::string_view hypervisor_names() noexcept {
    return "mshv, kvm, soft or mshvsim[:6.18|:7.2|:7.3[:kvm|:soft]]";
}

std::string name_of(const HypervisorChoice& choice) {
    const auto kind = kind_names.at(place(choice.kind));
    return choice.kind != Kind::mshvsim
               ? std::string{kind}
               : fmt::format(
                     "{}:{}:{}",
                     kind,
                     mshvsim::personality_names.at(place(choice.personality)),
                     mshvsim::engine_names.at(place(choice.engine)));
}

formats::Result<HypervisorChoice> hypervisor_from(std::string_view name) {
    std::vector<std::string_view> parts;
    for (const auto part : std::views::split(name, ':')) {
        parts.emplace_back(part.begin(), part.end());
    }
    const auto kind =
        mshvsim::choice_from<Kind>(kind_names, parts.empty() ? std::string_view{} : parts[0]);
    const std::size_t most_parts = kind == Kind::mshvsim ? 3 : 1;
    const HypervisorChoice defaults;
    const auto personality =
        parts.size() > 1 ? mshvsim::personality_from(parts[1]) : defaults.personality;
    const auto engine = parts.size() > 2 ? mshvsim::engine_from(parts[2]) : defaults.engine;
    if (kind && personality && engine && parts.size() <= most_parts) {
        return HypervisorChoice{*kind, *personality, *engine};
    }
    return formats::fail(
        formats::ErrorCode::invalid_argument,
        fmt::format("there is no hypervisor '{}'; choose auto, {}", name, hypervisor_names()));
}

} // namespace wherry::vmm
