// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/partition.hpp"

#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/cpuid.hpp"
#include "vmm/kvm/tsc.hpp"
#include "vmm/kvm/vcpu.hpp"
#include "vmm/userfault.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include <sys/ioctl.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::uint32_t pins_of_ioapic = 24;
// Three pages and one that KVM on Intel needs to run real mode; below the BIOS area at 4 GiB.
constexpr std::uint64_t task_state_pages = 0xfeffd000;
constexpr std::uint64_t identity_map_page = 0xfeffc000;

Result<int> enable(int vm, std::uint32_t capability, std::uint64_t argument, const char* name) {
    kvm_enable_cap wanted{};
    wanted.cap = capability;
    wanted.args[0] = argument;
    return call(vm, KVM_ENABLE_CAP, &wanted, name);
}

/// The frequency guests run at here, which does not change while the host runs, if they can. Older
/// kernels tell by vCPU only, so that a VM is made for it, once.
Result<std::uint64_t> guest_tsc_khz(const System& system) {
    static std::atomic<std::uint64_t> known{0};
    if (const auto before = known.load(); before != 0) {
        return before;
    }
    const auto vm = system.create_vm();
    if (!vm) {
        return fail(vm.error());
    }
    const auto vcpu = call_number(vm->get(), KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
    if (!vcpu) {
        return fail(vcpu.error());
    }
    const UniqueFd owned{*vcpu};
    const auto khz = tsc_frequency(*vcpu);
    if (!khz) {
        return fail(khz.error());
    }
    if (const auto taken = set_tsc_frequency(*vcpu, *khz, *khz); !taken) {
        return fail(taken.error());
    }
    known = *khz;
    return *khz;
}

Result<BackendCapabilities> capabilities_of(const System& system) {
    BackendCapabilities capabilities;
    capabilities.name = "kvm";
    capabilities.max_vcpus =
        static_cast<std::uint32_t>(std::clamp(system.extension(KVM_CAP_MAX_VCPUS), 1, 254));
    capabilities.has_interrupt_controller = true;
    capabilities.has_dirty_log = true;
    capabilities.can_scale_tsc = system.extension(KVM_CAP_TSC_CONTROL) > 0;
    const auto khz = guest_tsc_khz(system);
    if (!khz) {
        return fail(khz.error());
    }
    capabilities.tsc_frequency_khz = *khz;
    if (const auto userfault = Userfault::check(); !userfault) {
        capabilities.postcopy_obstacle = userfault.error().text();
    }
    auto supported = supported_cpuid(system);
    if (!supported) {
        return fail(supported.error());
    }
    capabilities.cpuid = offered_cpuid(
        std::move(*supported),
        {.has_tsc_deadline_timer = system.extension(KVM_CAP_TSC_DEADLINE_TIMER) > 0,
         .tsc_frequency_khz = *khz});
    return capabilities;
}

/// Needed on Intel hosts without unrestricted guest; hosts that never heard of them say so.
Status reserve_special_pages(int vm) {
    std::uint64_t identity = identity_map_page;
    const auto mapped = call(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity, "KVM_SET_IDENTITY_MAP_ADDR");
    if (!mapped && mapped.error().code() != ErrorCode::unsupported) {
        return fail(mapped.error());
    }
    const auto task = call_number(vm, KVM_SET_TSS_ADDR, task_state_pages, "KVM_SET_TSS_ADDR");
    if (!task && task.error().code() != ErrorCode::unsupported) {
        return fail(task.error());
    }
    return {};
}

Status enable_features(PartitionShared& shared) {
    const int vm = shared.vm.get();
    if (auto reserved = reserve_special_pages(vm); !reserved) {
        return reserved;
    }
    const auto split = enable(vm, KVM_CAP_SPLIT_IRQCHIP, pins_of_ioapic, "KVM_CAP_SPLIT_IRQCHIP");
    if (!split) {
        return fail(split.error());
    }
    // All optional: what is absent is not used.
    const std::uint64_t ids = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    if (shared.system.extension(KVM_CAP_X2APIC_API) > 0) {
        if (const auto done = enable(vm, KVM_CAP_X2APIC_API, ids, "KVM_CAP_X2APIC_API"); !done) {
            return fail(done.error());
        }
    }
    if ((shared.system.extension(KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE) != 0) {
        const auto done =
            enable(vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE, "KVM_CAP_PMU_CAPABILITY");
        if (!done) {
            return fail(done.error());
        }
    }
    shared.has_exception_payload =
        shared.system.extension(KVM_CAP_EXCEPTION_PAYLOAD) > 0 &&
        enable(vm, KVM_CAP_EXCEPTION_PAYLOAD, 1, "KVM_CAP_EXCEPTION_PAYLOAD").has_value();
    shared.has_triple_fault_event =
        shared.system.extension(KVM_CAP_X86_TRIPLE_FAULT_EVENT) > 0 &&
        enable(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, "KVM_CAP_X86_TRIPLE_FAULT_EVENT").has_value();
    return {};
}

/// The best that this host offers.
LogClearing enable_log_clearing(const PartitionShared& shared) {
    constexpr std::uint64_t apart = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    constexpr std::uint64_t from_the_start = apart | KVM_DIRTY_LOG_INITIALLY_SET;
    const auto offered =
        static_cast<std::uint64_t>(shared.system.extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
    const auto can_enable = [&](std::uint64_t wanted) {
        return (offered & wanted) == wanted && enable(
                                                   shared.vm.get(),
                                                   KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                                   wanted,
                                                   "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")
                                                   .has_value();
    };
    if (can_enable(from_the_start)) {
        return LogClearing::apart_from_the_start;
    }
    return can_enable(apart) ? LogClearing::apart : LogClearing::by_reading;
}

} // namespace

Result<BackendCapabilities> probe_kvm() {
    const auto system = System::open();
    if (!system) {
        return fail(system.error());
    }
    return capabilities_of(*system);
}

Result<std::unique_ptr<Partition>> KvmPartition::open(const PartitionOptions& options) {
    auto system = System::open();
    if (!system) {
        return fail(std::move(system.error()));
    }
    auto capabilities = capabilities_of(*system);
    if (!capabilities) {
        return fail(std::move(capabilities.error()));
    }
    if (options.vcpus == 0 || options.vcpus > capabilities->max_vcpus) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} vCPUs: kvm on this host takes 1 to {}",
                options.vcpus,
                capabilities->max_vcpus));
    }
    auto vm = system->create_vm();
    if (!vm) {
        return fail(std::move(vm.error()));
    }
    auto indices = system->msr_indices();
    if (!indices) {
        return fail(std::move(indices.error()));
    }
    auto shared = std::make_unique<PartitionShared>();
    shared->system = std::move(*system);
    shared->vm = std::move(*vm);
    shared->capabilities = std::move(*capabilities);
    shared->msr_indices = std::move(*indices);
    shared->vcpus = options.vcpus;
    shared->clock = Clock{shared->vm.get()};
    if (auto enabled = enable_features(*shared); !enabled) {
        return fail(std::move(enabled.error()));
    }
    const int xsave2 =
        ::ioctl(shared->vm.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_XSAVE2));
    shared->xsave_size = static_cast<std::size_t>(std::max(xsave2, 4096));
    const auto clearing = enable_log_clearing(*shared);
    return std::make_unique<KvmPartition>(std::move(shared), clearing);
}

KvmPartition::KvmPartition(std::unique_ptr<PartitionShared> shared, LogClearing clearing)
    : shared_{std::move(shared)},
      slots_{shared_->vm.get(), clearing} {}

const BackendCapabilities& KvmPartition::capabilities() const noexcept {
    return shared_->capabilities;
}

Status KvmPartition::map_memory(GuestMemory& memory) {
    return slots_.map(memory);
}

Result<std::unique_ptr<Vcpu>> KvmPartition::create_vcpu(std::uint32_t index) {
    return KvmVcpu::create(*shared_, index);
}

Status KvmPartition::signal(const MsiMessage& message) {
    kvm_msi msi{};
    msi.address_lo = static_cast<std::uint32_t>(message.address);
    msi.address_hi = static_cast<std::uint32_t>(message.address >> 32U);
    msi.data = message.data;
    if (::ioctl(shared_->vm.get(), KVM_SIGNAL_MSI, &msi) >= 0) {
        return {};
    }
    // -1 of the kernel's own, which reads as EPERM: no LAPIC took the message. On hardware it
    // would be lost as silently.
    const int number = errno;
    return number == EPERM ? Status{} : fail(formats::system_error(number, "KVM_SIGNAL_MSI"));
}

Status KvmPartition::route_pins(std::span<const MsiMessage> pins) {
    abi::RoutingTable table;
    if (pins.size() > table.entries.size()) {
        return fail(ErrorCode::invalid_argument, fmt::format("{} pins are too many", pins.size()));
    }
    for (std::size_t pin = 0; pin < pins.size(); ++pin) {
        if (pins[pin].address == 0) {
            continue; // a masked pin sends nothing
        }
        auto& entry = table.entries[table.count++];
        entry.gsi = static_cast<std::uint32_t>(pin);
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = static_cast<std::uint32_t>(pins[pin].address);
        entry.u.msi.address_hi = static_cast<std::uint32_t>(pins[pin].address >> 32U);
        entry.u.msi.data = pins[pin].data;
    }
    const auto set = call(shared_->vm.get(), abi::set_gsi_routing, &table, "KVM_SET_GSI_ROUTING");
    return set ? Status{} : fail(set.error());
}

namespace {

Status set_interrupt(int vm, int event, std::uint32_t pin, std::uint32_t flags) {
    kvm_irqfd argument{};
    argument.fd = static_cast<std::uint32_t>(event);
    argument.gsi = pin;
    argument.flags = flags;
    const auto set = call(vm, KVM_IRQFD, &argument, "KVM_IRQFD");
    return set ? Status{} : fail(set.error());
}

Status set_doorbell(int vm, int event, const Doorbell& doorbell, std::uint32_t flags) {
    kvm_ioeventfd argument{};
    argument.datamatch = doorbell.value.value_or(0);
    argument.addr = doorbell.at.value();
    argument.len = doorbell.length;
    argument.fd = event;
    argument.flags = flags | (doorbell.value ? std::uint32_t{KVM_IOEVENTFD_FLAG_DATAMATCH} : 0U);
    const auto set = call(vm, KVM_IOEVENTFD, &argument, "KVM_IOEVENTFD");
    return set ? Status{} : fail(set.error());
}

} // namespace

Status KvmPartition::bind_interrupt(int event, std::uint32_t pin) {
    return set_interrupt(shared_->vm.get(), event, pin, 0);
}
Status KvmPartition::release_interrupt(int event, std::uint32_t pin) {
    return set_interrupt(shared_->vm.get(), event, pin, KVM_IRQFD_FLAG_DEASSIGN);
}
Status KvmPartition::bind_doorbell(int event, const Doorbell& doorbell) {
    return set_doorbell(shared_->vm.get(), event, doorbell, 0);
}
Status KvmPartition::release_doorbell(int event, const Doorbell& doorbell) {
    return set_doorbell(shared_->vm.get(), event, doorbell, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Status KvmPartition::start_dirty_log() {
    return slots_.start_log();
}
Status KvmPartition::stop_dirty_log() {
    return slots_.stop_log();
}
Status KvmPartition::fetch_dirty_log(formats::PageRange region, std::span<std::uint64_t> bitmap) {
    return slots_.fetch(region, bitmap);
}
Result<PartitionClock> KvmPartition::save_clock() {
    return shared_->clock.save();
}
Status KvmPartition::restore_clock(const PartitionClock& clock) {
    return shared_->clock.restore(clock);
}

} // namespace wherry::vmm::kvm
