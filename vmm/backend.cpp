// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/partition.hpp"
#include "vmm/mshv/kernel_syscalls.hpp"
#include "vmm/mshv/partition.hpp"
#include "vmm/mshvsim/simulator.hpp"
#include "vmm/partition.hpp"
#include "vmm/soft_module.hpp"
#include "vmm/userfault_source.hpp"

#include <string>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

Result<std::unique_ptr<Partition>>
open_simulated(const HypervisorChoice& choice, const PartitionOptions& options) {
    auto simulator =
        mshvsim::open_simulator({.personality = choice.personality, .engine = choice.engine});
    if (!simulator) {
        return fail(std::move(simulator.error()));
    }
    return mshv::MshvPartition::open(std::move(*simulator), "mshvsim", options);
}

/// Calls ask(choice) for those that are hypervisors, until one works. What keeps the others from it
/// stays in the error.
template <typename Ask>
std::invoke_result_t<Ask, HypervisorChoice> ask_each(const Ask& ask) {
    std::string reasons;
    for (const auto& choice :
         {HypervisorChoice::mshv, HypervisorChoice::kvm, HypervisorChoice::soft}) {
        auto answer = ask(choice);
        if (answer) {
            return answer;
        }
        reasons += fmt::format(
            "{}{}: {}", reasons.empty() ? "" : "; ", name_of(choice), answer.error().text());
    }
    return fail(ErrorCode::unsupported, fmt::format("no hypervisor works here: {}", reasons));
}

} // namespace

Result<std::unique_ptr<Partition>>
open_partition(const HypervisorChoice& choice, const PartitionOptions& options) {
    switch (choice.kind) {
    case HypervisorChoice::Kind::mshv:
        return mshv::MshvPartition::open(mshv::kernel_syscalls(), "mshv", options);
    case HypervisorChoice::Kind::mshvsim:
        return open_simulated(choice, options);
    case HypervisorChoice::Kind::kvm:
        return kvm::KvmPartition::open(options);
    case HypervisorChoice::Kind::soft:
        return open_soft_partition(options);
    case HypervisorChoice::Kind::automatic:
        break;
    }
    return ask_each(
        [&options](const HypervisorChoice& each) { return open_partition(each, options); });
}

Result<BackendCapabilities> probe(const HypervisorChoice& choice) {
    if (choice == HypervisorChoice::kvm) {
        return kvm::probe_kvm(); // needs no partition
    }
    if (choice == HypervisorChoice::automatic) {
        return ask_each(probe);
    }
    const auto partition = open_partition(choice, {});
    if (!partition) {
        return fail(partition.error());
    }
    return (*partition)->capabilities();
}

/// For hypervisors that take a fault of guest memory as one of this process, and wait for it.
Result<std::unique_ptr<FaultSource>> Partition::make_fault_source(GuestMemory& memory) {
    return UserfaultSource::open(memory);
}

Status Partition::bind_interrupt(int /*event*/, std::uint32_t /*pin*/) {
    return fail(ErrorCode::unsupported, capabilities().name + " has no interrupts by events");
}
Status Partition::release_interrupt(int event, std::uint32_t pin) {
    return bind_interrupt(event, pin);
}
Status Partition::bind_doorbell(int /*event*/, const Doorbell& /*doorbell*/) {
    return fail(ErrorCode::unsupported, capabilities().name + " has no doorbells");
}
Status Partition::release_doorbell(int event, const Doorbell& doorbell) {
    return bind_doorbell(event, doorbell);
}

} // namespace wherry::vmm
