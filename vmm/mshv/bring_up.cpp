// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/bring_up.hpp"

#include "vmm/cpu_profile.hpp"
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/cpuid.hpp"
#include "vmm/mshv/features.hpp"
#include "vmm/mshv/vp_registers.hpp"
#include "vmm/userfault.hpp"

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace ioctls = abi::ioctls;
namespace properties = abi::properties;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

/// An xAPIC id has 8 bits, and 255 means all; APIC ids are VP indices.
constexpr std::uint32_t max_vcpus = 254;

Result<std::array<std::uint64_t, 2>> available_features(const Descriptor& device) {
    const auto first = device.property(properties::processor_features0, "processor features 0");
    if (!first) {
        return fail(first.error());
    }
    const auto second = device.property(properties::processor_features1, "processor features 1");
    if (!second) {
        return fail(second.error());
    }
    return std::array{*first, *second};
}

/// Nothing where the hypervisor or the kernel is too old to tell.
std::optional<std::uint64_t> assignable_synthetic(const Descriptor& device) {
    const abi::hypercalls::GetPropertyEx input{
        .code = properties::ex::assignable_synthetic_processor_features};
    abi::hypercalls::PropertyExBanks output;
    const auto outcome = device.try_hypercall(
        {.name = {},
         .code = abi::hypercalls::get_partition_property_ex,
         .input = &input,
         .input_size = sizeof(input),
         .output = &output,
         .output_size = sizeof(output)});
    return outcome.error == 0 && output.banks > 0 ? std::optional{output.bank0} : std::nullopt;
}

constexpr std::uint64_t with_apic =
    ioctls::partition_flags::lapic | ioctls::partition_flags::x2apic;

Result<Descriptor>
create(const Descriptor& device, const PartitionFeatures& features, std::uint64_t apic_flags) {
    namespace flags = ioctls::partition_flags;
    ioctls::CreatePartition argument{
        .flags = apic_flags | flags::gpa_super_pages | flags::cpu_and_xsave_features,
        .disabled_features = features.disabled,
        .disabled_xsave_features = features.disabled_xsave};
    int made = 0;
    do {
        made = device.raw(ioctls::create_partition, &argument);
    } while (made == -EINTR);
    if (made == -EINVAL) {
        // Kernels before the second form of the structure: nothing can be hidden.
        argument.flags &= ~flags::cpu_and_xsave_features;
        return device.derive(ioctls::create_partition, &argument, "MSHV_CREATE_PARTITION");
    }
    if (made < 0) {
        return fail(formats::system_error(-made, "MSHV_CREATE_PARTITION"));
    }
    return device.adopt(made);
}

Status initialize(PartitionShared& shared) {
    const auto& partition = shared.partition;
    if (auto set = partition.set_property(
            properties::synthetic_processor_features,
            shared.synthetic_features,
            "offering synthetic features");
        !set) {
        return set;
    }
    const auto initialized =
        partition.call(ioctls::initialize_partition, nullptr, "MSHV_INITIALIZE_PARTITION");
    if (!initialized) {
        return fail(initialized.error());
    }
    constexpr std::uint64_t read_zero_ignore_writes = 1;
    if (auto set = partition.set_property(
            properties::unimplemented_msr_action,
            read_zero_ignore_writes,
            "choosing what unknown MSRs do");
        !set) {
        return set;
    }
    return shared.time.freeze();
}

/// How guest memory gets to the guest with this kernel.
Status learn_memory(PartitionShared& shared) {
    const auto pins = shared.guest_map.pins_memory();
    if (!pins) {
        return fail(pins.error());
    }
    shared.kernel_pins = *pins;
    shared.capabilities.fault_granule = window_pages;
    if (const auto userfault = Userfault::check(); !userfault) {
        shared.capabilities.postcopy_obstacle = userfault.error().text();
    }
    return {};
}

Status learn(PartitionShared& shared) {
    const auto hertz = shared.partition.property(
        properties::processor_clock_frequency, "the processor's frequency");
    const auto states = shared.partition.property(properties::xsave_states, "XSAVE components");
    const auto size = shared.partition.property(properties::max_xsave_data_size, "XSAVE size");
    for (const auto* const got : {&hertz, &states, &size}) {
        if (!*got) {
            return fail(got->error());
        }
    }
    shared.capabilities.tsc_frequency_khz = *hertz / 1000;
    shared.xsave_states = *states;
    shared.xsave_size = static_cast<std::size_t>(*size);

    ioctls::CreateVp argument{.vp_index = 0};
    auto vp = shared.partition.derive(ioctls::create_vp, &argument, "MSHV_CREATE_VP");
    if (!vp) {
        return fail(std::move(vp.error()));
    }
    shared.first_vp = std::move(*vp);
    auto answered = read_cpuid(shared.first_vp, 0);
    if (!answered) {
        return fail(std::move(answered.error()));
    }
    shared.answered_cpuid = std::move(*answered);
    const auto apic =
        VpRegisters{shared.first_vp, 0}.read_present(std::span{&abi::registers::apic_frequency, 1});
    if (!apic) {
        return fail(apic.error());
    }
    shared.capabilities.cpuid = offered_cpuid(
        shared.answered_cpuid,
        {.tsc = shared.capabilities.tsc_frequency_khz,
         .apic_timer = apic->empty() ? 0 : apic->front().value.low / 1000});
    shared.xsave_layout = XsaveLayout{shared.answered_cpuid};
    const auto widths = word_of(shared.answered_cpuid, {0x80000008, 0, CpuidRegister::eax});
    if ((widths & 0xffU) != 0) {
        shared.physical_address_bits = static_cast<std::uint8_t>(widths & 0xffU);
    }
    return {};
}

} // namespace

Result<std::unique_ptr<PartitionShared>>
bring_up(std::unique_ptr<Syscalls> syscalls, std::string name, const PartitionOptions& options) {
    if (options.vcpus == 0 || options.vcpus > max_vcpus) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} vCPUs: {} takes 1 to {}", options.vcpus, name, max_vcpus));
    }
    auto shared = std::make_unique<PartitionShared>(std::move(syscalls));
    const auto device = Descriptor::open_device(*shared->syscalls);
    if (!device) {
        return fail(device.error());
    }
    const auto available = available_features(*device);
    if (!available) {
        return fail(available.error());
    }
    const auto features = choose_features(options.cpuid, *available, assignable_synthetic(*device));
    auto partition = create(*device, features, with_apic);
    const bool has_apic = partition.has_value();
    if (!partition) { // one that has no APICs to give may still have partitions
        if (auto without = create(*device, features, 0)) {
            partition = std::move(without);
        } else {
            return fail(std::move(partition.error()));
        }
    }
    shared->partition = std::move(*partition);
    shared->synthetic_features = features.synthetic;
    shared->vcpus = options.vcpus;
    shared->capabilities.name = std::move(name);
    shared->capabilities.max_vcpus = max_vcpus;
    shared->capabilities.has_interrupt_controller = has_apic;
    shared->capabilities.has_dirty_log = true;
    if (auto initialized = initialize(*shared); !initialized) {
        return fail(std::move(initialized.error()));
    }
    if (auto learned = learn(*shared); !learned) {
        return fail(std::move(learned.error()));
    }
    if (auto learned = learn_memory(*shared); !learned) {
        return fail(std::move(learned.error()));
    }
    return shared;
}

} // namespace wherry::vmm::mshv
