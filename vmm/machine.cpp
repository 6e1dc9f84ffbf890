// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine.hpp"

#include "vmm/cpu_profile.hpp"
#include "vmm/pc_machine.hpp"
#include "vmm/platform_layout.hpp"

#include <string>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

Result<std::unique_ptr<Machine>> Machine::create(MachineConfig config, const MachineHost& host) {
    if (config.vcpus == 0 || config.vcpus > platform_layout::max_vcpus) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} vCPUs: a machine has 1 to {}", config.vcpus, platform_layout::max_vcpus));
    }
    auto partition =
        open_partition(host.hypervisor, {.vcpus = config.vcpus, .cpuid = config.cpuid});
    if (!partition) {
        return fail(std::move(partition.error()));
    }
    const auto& offered = (*partition)->capabilities();
    if (config.cpuid.empty()) {
        config.cpuid = offered.cpuid;
    }
    std::string missing;
    for (const auto& reason : missing_cpu_features(config, offered)) {
        missing += fmt::format("{}{}", missing.empty() ? "" : "; ", reason);
    }
    if (!missing.empty()) {
        return fail(ErrorCode::incompatible, std::move(missing));
    }
    auto memory = GuestMemory::create(config.memory);
    if (!memory) {
        return fail(std::move(memory.error()));
    }
    auto machine = std::make_unique<PcMachine>(PcMachine::Parts{
        .config = std::move(config),
        .partition = std::move(*partition),
        .memory = std::move(*memory)});
    if (auto furnished = machine->furnish(host); !furnished) {
        return fail(std::move(furnished.error()));
    }
    return machine;
}

} // namespace wherry::vmm
