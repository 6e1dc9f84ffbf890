// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/partition.hpp"
#include "vmm/mshv/kernel_syscalls.hpp"
#include "vmm/mshv/partition.hpp"
#include "vmm/mshvsim/simulator.hpp"
#include "vmm/partition.hpp"
#include "vmm/soft_module.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

struct NamedChoice {
    std::string_view name;
    HypervisorChoice choice;
};
constexpr auto names = std::to_array<NamedChoice>({
    {"auto", HypervisorChoice::automatic},
    {"mshv", HypervisorChoice::mshv},
    {"mshvsim", HypervisorChoice::mshvsim_7_2},
    {"mshvsim:6.18", HypervisorChoice::mshvsim_6_18},
    {"mshvsim:7.2", HypervisorChoice::mshvsim_7_2},
    {"mshvsim:7.3", HypervisorChoice::mshvsim_7_3},
    {"mshvsim:6.18:auto", HypervisorChoice::mshvsim_6_18},
    {"mshvsim:7.2:auto", HypervisorChoice::mshvsim_7_2},
    {"mshvsim:7.3:auto", HypervisorChoice::mshvsim_7_3},
    {"mshvsim:6.18:kvm", HypervisorChoice::mshvsim_6_18_kvm},
    {"mshvsim:7.2:kvm", HypervisorChoice::mshvsim_7_2_kvm},
    {"mshvsim:7.3:kvm", HypervisorChoice::mshvsim_7_3_kvm},
    {"mshvsim:6.18:soft", HypervisorChoice::mshvsim_6_18_soft},
    {"mshvsim:7.2:soft", HypervisorChoice::mshvsim_7_2_soft},
    {"mshvsim:7.3:soft", HypervisorChoice::mshvsim_7_3_soft},
    {"kvm", HypervisorChoice::kvm},
    {"soft", HypervisorChoice::soft},
});

Result<std::unique_ptr<Partition>> open_simulated(
    mshvsim::Personality personality,
    mshvsim::EngineChoice engine,
    const PartitionOptions& options) {
    auto simulator = mshvsim::open_simulator({.personality = personality, .engine = engine});
    if (!simulator) {
        return fail(std::move(simulator.error()));
    }
    return mshv::MshvPartition::open(std::move(*simulator), "mshvsim", options);
}

/// The first that works of those that are hypervisors. What keeps the others from it stays in the
/// error.
Result<std::unique_ptr<Partition>> open_first(const PartitionOptions& options) {
    std::string reasons;
    for (const auto& [choice, name] :
         {std::pair{HypervisorChoice::mshv, "mshv"},
          {HypervisorChoice::kvm, "kvm"},
          {HypervisorChoice::soft, "soft"}}) {
        auto partition = open_partition(choice, options);
        if (partition) {
            return partition;
        }
        reasons +=
            fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", name, partition.error().text());
    }
    return fail(ErrorCode::unsupported, fmt::format("no hypervisor works here: {}", reasons));
}

} // namespace

std::string_view hypervisor_names() noexcept {
    return "mshv, kvm, soft or mshvsim[:6.18|:7.2|:7.3[:kvm|:soft]]";
}

Result<HypervisorChoice> hypervisor_from(std::string_view name) {
    const auto found = std::ranges::find(names, name, &NamedChoice::name);
    if (found != names.end()) {
        return found->choice;
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("there is no hypervisor '{}'; choose auto, {}", name, hypervisor_names()));
}

Result<std::unique_ptr<Partition>>
open_partition(HypervisorChoice choice, const PartitionOptions& options) {
    using mshvsim::EngineChoice;
    using mshvsim::Personality;
    switch (choice) {
    case HypervisorChoice::mshv:
        return mshv::MshvPartition::open(mshv::kernel_syscalls(), "mshv", options);
    case HypervisorChoice::mshvsim_6_18:
        return open_simulated(Personality::v6_18, EngineChoice::automatic, options);
    case HypervisorChoice::mshvsim_7_2:
        return open_simulated(Personality::v7_2, EngineChoice::automatic, options);
    case HypervisorChoice::mshvsim_7_3:
        return open_simulated(Personality::v7_3, EngineChoice::automatic, options);
    case HypervisorChoice::mshvsim_6_18_kvm:
        return open_simulated(Personality::v6_18, EngineChoice::kvm, options);
    case HypervisorChoice::mshvsim_7_2_kvm:
        return open_simulated(Personality::v7_2, EngineChoice::kvm, options);
    case HypervisorChoice::mshvsim_7_3_kvm:
        return open_simulated(Personality::v7_3, EngineChoice::kvm, options);
    case HypervisorChoice::mshvsim_6_18_soft:
        return open_simulated(Personality::v6_18, EngineChoice::soft, options);
    case HypervisorChoice::mshvsim_7_2_soft:
        return open_simulated(Personality::v7_2, EngineChoice::soft, options);
    case HypervisorChoice::mshvsim_7_3_soft:
        return open_simulated(Personality::v7_3, EngineChoice::soft, options);
    case HypervisorChoice::kvm:
        return kvm::KvmPartition::open(options);
    case HypervisorChoice::soft:
        return open_soft_partition(options);
    case HypervisorChoice::automatic:
        break;
    }
    return open_first(options);
}

Result<BackendCapabilities> probe(HypervisorChoice choice) {
    if (choice == HypervisorChoice::kvm) {
        return kvm::probe_kvm(); // needs no partition
    }
    const auto partition = open_partition(choice, {});
    if (!partition) {
        return fail(partition.error());
    }
    return (*partition)->capabilities();
}

} // namespace wherry::vmm
