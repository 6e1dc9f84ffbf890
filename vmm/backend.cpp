// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/partition.hpp"
#include "vmm/partition.hpp"
#include "vmm/soft_module.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

Result<BackendCapabilities> probe_soft() {
    const auto partition = open_soft_partition({});
    if (!partition) {
        return fail(partition.error());
    }
    return (*partition)->capabilities();
}

/// The first that works of kvm and soft. What keeps kvm from it stays in the error.
template <typename Open>
auto first_of(Open open) -> decltype(open(HypervisorChoice::kvm)) {
    auto kvm = open(HypervisorChoice::kvm);
    if (kvm) {
        return kvm;
    }
    auto soft = open(HypervisorChoice::soft);
    if (soft) {
        return soft;
    }
    return fail(
        ErrorCode::unsupported,
        fmt::format(
            "no hypervisor works here: kvm: {}; soft: {}",
            kvm.error().text(),
            soft.error().text()));
}

} // namespace

Result<HypervisorChoice> hypervisor_from(std::string_view name) {
    if (name == "auto") {
        return HypervisorChoice::automatic;
    }
    if (name == "kvm") {
        return HypervisorChoice::kvm;
    }
    if (name == "soft") {
        return HypervisorChoice::soft;
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format("there is no hypervisor '{}'; choose auto, kvm or soft", name));
}

Result<std::unique_ptr<Partition>>
open_partition(HypervisorChoice choice, const PartitionOptions& options) {
    switch (choice) {
    case HypervisorChoice::kvm:
        return kvm::KvmPartition::open(options);
    case HypervisorChoice::soft:
        return open_soft_partition(options);
    case HypervisorChoice::automatic:
        break;
    }
    return first_of([&options](HypervisorChoice one) { return open_partition(one, options); });
}

Result<BackendCapabilities> probe(HypervisorChoice choice) {
    switch (choice) {
    case HypervisorChoice::kvm:
        return kvm::probe_kvm();
    case HypervisorChoice::soft:
        return probe_soft();
    case HypervisorChoice::automatic:
        break;
    }
    return first_of([](HypervisorChoice one) { return probe(one); });
}

} // namespace wherry::vmm
