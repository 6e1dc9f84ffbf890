// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/kvm_engine.hpp"

#include "vmm/kvm/abi.hpp"
#include "vmm/mshvsim/kvm_vcpu.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>

namespace wherry::vmm::mshvsim {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

/// A pin for each vector: KVM exits at the end of interrupts that a pin's message names.
constexpr std::uint64_t pins = 256;
// KVM on some Intel hosts keeps three pages and one to run real mode; below the BIOS area.
constexpr std::uint64_t task_state_pages = 0xfeffd000;
constexpr std::uint64_t identity_map_page = 0xfeffc000;
constexpr std::uint32_t msi_address = 0xfee00000;
constexpr std::uint32_t level_and_asserted = 3U << 14U;

bool enable(int vm, std::uint32_t capability, std::uint64_t argument) {
    kvm_enable_cap wanted{};
    wanted.cap = capability;
    wanted.args[0] = argument;
    return ::ioctl(vm, KVM_ENABLE_CAP, &wanted) == 0;
}

/// The MSRs of Hyper-V's range come to user space, whatever of them this host's KVM has itself.
/// Both capabilities are of Linux 5.10.
bool divert_synthetic_msrs(int vm) {
    if (!enable(
            vm,
            KVM_CAP_X86_USER_SPACE_MSR,
            KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)) {
        return false;
    }
    std::array<std::uint8_t, 64> none{};
    kvm_msr_filter filter{};
    filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
    filter.ranges[0] = {
        .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
        .nmsrs = 8 * none.size(),
        .base = 0x40000000,
        .bitmap = none.data()};
    return ::ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter) == 0;
}

std::vector<CpuidEntry> supported_cpuid(int system) {
    kvm::abi::CpuidTable table;
    table.count = static_cast<std::uint32_t>(table.entries.size());
    std::vector<CpuidEntry> entries;
    if (::ioctl(system, kvm::abi::get_supported_cpuid, &table) < 0) {
        return entries;
    }
    for (const auto& from : std::span{table.entries}.first(table.count)) {
        entries.push_back(
            {.leaf = from.function,
             .subleaf = from.index,
             .subleaf_is_significant = (from.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
             .eax = from.eax,
             .ebx = from.ebx,
             .ecx = from.ecx,
             .edx = from.edx});
    }
    return entries;
}

std::uint64_t frequency_of_guests(int system) {
    const UniqueFd vm{::ioctl(system, KVM_CREATE_VM, 0)};
    const UniqueFd vcpu{::ioctl(vm.get(), KVM_CREATE_VCPU, 0)};
    return static_cast<std::uint64_t>(std::max(0, ::ioctl(vcpu.get(), KVM_GET_TSC_KHZ, 0)));
}

EngineCapabilities capabilities_of(int system, int vm) {
    const auto extension = [vm](unsigned long number) {
        return static_cast<std::uint32_t>(std::max(0, ::ioctl(vm, KVM_CHECK_EXTENSION, number)));
    };
    EngineCapabilities capabilities;
    capabilities.cpuid = supported_cpuid(system);
    capabilities.tsc_frequency_khz = frequency_of_guests(system);
    capabilities.max_slots = extension(KVM_CAP_NR_MEMSLOTS);
    capabilities.max_vcpus = std::min(254U, extension(KVM_CAP_MAX_VCPUS));
    return capabilities;
}

} // namespace

Result<std::unique_ptr<Engine>> KvmEngine::open(const char* device) {
    UniqueFd system{::open(device, O_RDWR | O_CLOEXEC)};
    if (!system.is_open()) {
        return fail(formats::system_error(errno, std::string{"opening "} + device));
    }
    UniqueFd vm{::ioctl(system.get(), KVM_CREATE_VM, 0)};
    if (!vm.is_open()) {
        return fail(formats::system_error(errno, "KVM_CREATE_VM"));
    }
    std::uint64_t identity = identity_map_page;
    // Hosts that need neither of the two say so, and are right.
    ::ioctl(vm.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity);
    ::ioctl(vm.get(), KVM_SET_TSS_ADDR, task_state_pages);
    if (!enable(vm.get(), KVM_CAP_SPLIT_IRQCHIP, pins)) {
        return fail(formats::system_error(errno, "KVM_CAP_SPLIT_IRQCHIP"));
    }
    auto capabilities = capabilities_of(system.get(), vm.get());
    if (capabilities.cpuid.empty()) {
        return fail(ErrorCode::unsupported, "this host's KVM tells no CPUID");
    }
    capabilities.has_msr_exits = divert_synthetic_msrs(vm.get());
    enable(vm.get(), KVM_CAP_EXCEPTION_PAYLOAD, 1);
    const int run_size = ::ioctl(system.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size <= 0) {
        return fail(formats::system_error(errno, "KVM_GET_VCPU_MMAP_SIZE"));
    }
    return std::make_unique<KvmEngine>(
        std::move(system),
        std::move(vm),
        std::move(capabilities),
        static_cast<std::size_t>(run_size));
}

KvmEngine::KvmEngine(
    UniqueFd system, UniqueFd vm, EngineCapabilities capabilities, std::size_t run_size)
    : system_{std::move(system)},
      vm_{std::move(vm)},
      capabilities_{std::move(capabilities)},
      run_size_{run_size} {
    for (const auto& entry : capabilities_.cpuid) {
        const bool has_xsave = std::ranges::any_of(capabilities_.cpuid, [](const auto& leaf) {
            return leaf.leaf == 1 && (leaf.ecx & (1U << 26U)) != 0;
        });
        if (has_xsave && entry.leaf == 0xd && entry.subleaf == 0) {
            capabilities_.xcr0 = entry.eax | (std::uint64_t{entry.edx} << 32U);
        }
    }
}

int KvmEngine::set_slot(const EngineSlot& slot) {
    kvm_userspace_memory_region wanted{
        .slot = slot.number,
        .flags = (slot.is_logged ? std::uint32_t{KVM_MEM_LOG_DIRTY_PAGES} : 0U) |
                 (slot.is_writable ? 0U : std::uint32_t{KVM_MEM_READONLY}),
        .guest_phys_addr = slot.first_gfn << 12U,
        .memory_size = slot.pages << 12U,
        .userspace_addr = slot.host};
    return ::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &wanted) == 0 ? 0 : errno;
}

bool KvmEngine::fetch_log(std::uint32_t slot, std::span<std::uint64_t> bitmap) {
    kvm_dirty_log log{};
    log.slot = slot;
    log.dirty_bitmap = bitmap.data();
    return ::ioctl(vm_.get(), KVM_GET_DIRTY_LOG, &log) == 0;
}

Result<std::unique_ptr<EngineVcpu>>
KvmEngine::create_vcpu(std::uint32_t index, MemoryFaults& memory) {
    UniqueFd vcpu{::ioctl(vm_.get(), KVM_CREATE_VCPU, static_cast<unsigned long>(index))};
    if (!vcpu.is_open()) {
        return fail(formats::system_error(errno, "KVM_CREATE_VCPU"));
    }
    return KvmVcpu::open(*this, std::move(vcpu), run_size_, memory);
}

bool KvmEngine::is_level(std::uint8_t vector) {
    const std::scoped_lock held{lock_};
    return level_.test(vector);
}

/// With lock_. KVM scans the routes of pins for level-triggered messages and whom they reach.
bool KvmEngine::route_end_of_interrupt(std::uint8_t vector) {
    if (routed_.test(vector)) {
        return true;
    }
    routed_.set(vector);
    auto table = std::make_unique<kvm::abi::Counted<kvm_irq_routing_entry, pins>>();
    for (std::uint32_t pin = 0; pin < pins; ++pin) {
        if (!routed_.test(pin)) {
            continue;
        }
        auto& entry = table->entries[table->count++];
        entry.gsi = pin;
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = msi_address | (0xffU << 12U); // to all
        entry.u.msi.data = pin | level_and_asserted;
    }
    return ::ioctl(vm_.get(), kvm::abi::set_gsi_routing, table.get()) == 0;
}

bool KvmEngine::assert_interrupt(const Interrupt& interrupt) {
    {
        const std::scoped_lock held{lock_};
        level_.set(interrupt.vector, interrupt.is_level);
        if (interrupt.is_level && !route_end_of_interrupt(interrupt.vector)) {
            return false;
        }
    }
    kvm_msi msi{};
    msi.address_lo = msi_address | ((interrupt.destination & 0xffU) << 12U) |
                     (interrupt.is_logical ? 4U : 0U) | (interrupt.type == 1 ? 8U : 0U);
    msi.data =
        interrupt.vector | (interrupt.type << 8U) | (interrupt.is_level ? level_and_asserted : 0U);
    // -1 of the kernel's own, read as EPERM: no LAPIC took it. On hardware it is lost as silently.
    return ::ioctl(vm_.get(), KVM_SIGNAL_MSI, &msi) >= 0 || errno == EPERM;
}

} // namespace wherry::vmm::mshvsim
