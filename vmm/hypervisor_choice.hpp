// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshvsim/choices.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace wherry::vmm {

/// Which hypervisor a guest is to run on.
struct HypervisorChoice {
    enum class Kind : std::uint8_t { automatic, mshv, mshvsim, kvm, soft };
    Kind kind = Kind::automatic;
    // Of mshvsim, the simulator of /dev/mshv; others have what stands here.
    mshvsim::Personality personality = mshvsim::Personality::v7_2;
    mshvsim::EngineChoice engine = mshvsim::EngineChoice::automatic;

    bool operator==(const HypervisorChoice&) const = default;
    static const HypervisorChoice automatic, mshv, kvm, soft;
};
inline constexpr HypervisorChoice HypervisorChoice::automatic{};
inline constexpr HypervisorChoice HypervisorChoice::mshv{.kind = Kind::mshv};
inline constexpr HypervisorChoice HypervisorChoice::kvm{.kind = Kind::kvm};
inline constexpr HypervisorChoice HypervisorChoice::soft{.kind = Kind::soft};

/// "auto", "mshv", "kvm", "soft"; "mshvsim[:PERSONALITY[:ENGINE]]" with 6.18, 7.2 (where none is
/// named) or 7.3, and kvm, soft or auto (where none is named).
formats::Result<HypervisorChoice> hypervisor_from(std::string_view name);
/// A name that hypervisor_from() takes, with all its parts: "kvm", "mshvsim:7.2:auto".
std::string name_of(const HypervisorChoice& choice);
/// All but "auto", for help texts: "mshv, kvm, soft or
/// mshvsim[:6.18|:7.2|:7.3[:kvm|:soft]]".
std::string_view hypervisor_names() noexcept;

} // namespace wherry::vmm
