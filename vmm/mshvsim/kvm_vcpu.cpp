// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/kvm_vcpu.hpp"

#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/registers.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/ioctl.h>
#include <sys/mman.h>

namespace wherry::vmm::mshvsim {

using formats::fail;
using formats::Result;

namespace {

constexpr std::size_t xsave_size = 4096;

/// Reading a vCPU's state fails only where our own use of KVM is wrong.
template <typename Value>
Value read(int vcpu, unsigned long request, std::string_view what) {
    Value value{};
    formats::invariant(::ioctl(vcpu, request, &value) >= 0, what);
    return value;
}

template <typename Value>
bool write(int vcpu, unsigned long request, const Value& value) {
    return ::ioctl(vcpu, request, &value) >= 0;
}

} // namespace

Result<std::unique_ptr<EngineVcpu>>
KvmVcpu::open(KvmEngine& engine, UniqueFd vcpu, std::size_t run_size, MemoryFaults& memory) {
    void* const area = ::mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.get(), 0);
    if (area == MAP_FAILED) {
        return fail(formats::system_error(errno, "mapping a vCPU's run area"));
    }
    // KVM's own MSRs are unknown to a guest of this hypervisor. Kernels before 5.10 have no say in
    // it.
    kvm_enable_cap hide{};
    hide.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID;
    hide.args[0] = 1;
    ::ioctl(vcpu.get(), KVM_ENABLE_CAP, &hide);
    return std::make_unique<KvmVcpu>(
        engine, std::move(vcpu), static_cast<kvm_run*>(area), run_size, memory);
}

KvmVcpu::KvmVcpu(
    KvmEngine& engine, UniqueFd vcpu, kvm_run* area, std::size_t run_size, MemoryFaults& memory)
    : engine_{engine},
      vcpu_{std::move(vcpu)},
      area_{area},
      run_size_{run_size},
      memory_{memory} {}

KvmVcpu::~KvmVcpu() {
    ::munmap(area_, run_size_);
}

Registers KvmVcpu::registers() {
    return kvm::canonical(read<kvm_regs>(vcpu_.get(), KVM_GET_REGS, "KVM_GET_REGS works"));
}
bool KvmVcpu::set_registers(const Registers& to) {
    return write(vcpu_.get(), KVM_SET_REGS, kvm::native(to));
}

SystemRegisters KvmVcpu::system() {
    return kvm::canonical(read<kvm_sregs>(vcpu_.get(), KVM_GET_SREGS, "KVM_GET_SREGS works"));
}
bool KvmVcpu::set_system(const SystemRegisters& to) {
    return write(vcpu_.get(), KVM_SET_SREGS, kvm::native(to));
}

DebugRegisters KvmVcpu::debug() {
    return kvm::canonical(
        read<kvm_debugregs>(vcpu_.get(), KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS works"));
}
bool KvmVcpu::set_debug(const DebugRegisters& to) {
    return write(vcpu_.get(), KVM_SET_DEBUGREGS, kvm::native(to));
}

PendingEvents KvmVcpu::events() {
    return kvm::canonical(
        read<kvm_vcpu_events>(vcpu_.get(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS works"));
}
bool KvmVcpu::set_events(const PendingEvents& to) {
    auto events =
        read<kvm_vcpu_events>(vcpu_.get(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS works");
    const auto known = events.flags & KVM_VCPUEVENT_VALID_PAYLOAD;
    events = kvm::native(to, known | KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW);
    return write(vcpu_.get(), KVM_SET_VCPU_EVENTS, events);
}

RunState KvmVcpu::run_state() {
    switch (read<kvm_mp_state>(vcpu_.get(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE works").mp_state) {
    case KVM_MP_STATE_UNINITIALIZED:
        return RunState::uninitialized;
    case KVM_MP_STATE_INIT_RECEIVED:
        return RunState::init_received;
    case KVM_MP_STATE_HALTED:
        return RunState::halted;
    case KVM_MP_STATE_SIPI_RECEIVED:
        return RunState::sipi_received;
    default:
        return RunState::runnable;
    }
}
bool KvmVcpu::set_run_state(RunState to) {
    return write(vcpu_.get(), KVM_SET_MP_STATE, kvm_mp_state{static_cast<std::uint32_t>(to)});
}

std::optional<std::uint64_t> KvmVcpu::msr(std::uint32_t index) {
    kvm::abi::Counted<kvm_msr_entry, 1> one;
    one.count = 1;
    one.entries[0].index = index;
    if (::ioctl(vcpu_.get(), kvm::abi::get_msrs, &one) != 1) {
        return std::nullopt;
    }
    return one.entries[0].data;
}
bool KvmVcpu::set_msr(std::uint32_t index, std::uint64_t value) {
    kvm::abi::Counted<kvm_msr_entry, 1> one;
    one.count = 1;
    one.entries[0] = {.index = index, .reserved = 0, .data = value};
    return ::ioctl(vcpu_.get(), kvm::abi::set_msrs, &one) == 1;
}

std::uint64_t KvmVcpu::xcr0() {
    kvm_xcrs all{};
    const bool has_any = ::ioctl(vcpu_.get(), KVM_GET_XCRS, &all) >= 0 && all.nr_xcrs > 0;
    return has_any ? all.xcrs[0].value : 1;
}
bool KvmVcpu::set_xcr0(std::uint64_t value) {
    kvm_xcrs all{};
    all.nr_xcrs = 1;
    all.xcrs[0].value = value;
    return write(vcpu_.get(), KVM_SET_XCRS, all);
}

std::vector<std::byte> KvmVcpu::xsave() {
    std::vector<std::byte> area(xsave_size);
    formats::invariant(
        ::ioctl(vcpu_.get(), kvm::abi::get_xsave, area.data()) >= 0, "KVM_GET_XSAVE works");
    return area;
}
bool KvmVcpu::set_xsave(std::span<const std::byte> area) {
    std::vector<std::byte> whole(xsave_size);
    std::ranges::copy(area.first(std::min(area.size(), whole.size())), whole.begin());
    return ::ioctl(vcpu_.get(), kvm::abi::set_xsave, whole.data()) >= 0;
}

std::optional<EngineVcpu::LapicPage> KvmVcpu::lapic() {
    const auto state = read<kvm_lapic_state>(vcpu_.get(), KVM_GET_LAPIC, "KVM_GET_LAPIC works");
    static_assert(sizeof(state) == sizeof(LapicPage));
    return std::bit_cast<LapicPage>(state);
}
bool KvmVcpu::set_lapic(const LapicPage& page) {
    return write(vcpu_.get(), KVM_SET_LAPIC, page);
}
bool KvmVcpu::set_apic_base(std::uint64_t value) {
    auto now = read<kvm_sregs>(vcpu_.get(), KVM_GET_SREGS, "KVM_GET_SREGS works");
    now.apic_base = value;
    return write(vcpu_.get(), KVM_SET_SREGS, now);
}

bool KvmVcpu::set_cpuid(std::span<const CpuidEntry> entries) {
    kvm::abi::CpuidTable table;
    if (entries.size() > table.entries.size()) {
        return false;
    }
    for (const auto& from : entries) {
        auto& to = table.entries[table.count++];
        to.function = from.leaf;
        to.index = from.subleaf;
        to.flags = from.subleaf_is_significant ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0U;
        to.eax = from.eax;
        to.ebx = from.ebx;
        to.ecx = from.ecx;
        to.edx = from.edx;
    }
    return write(vcpu_.get(), kvm::abi::set_cpuid2, table);
}

bool KvmVcpu::inject_external(std::uint8_t vector) {
    kvm_interrupt interrupt{vector};
    // EEXIST: one is waiting already, as an 8259 would have it.
    return ::ioctl(vcpu_.get(), KVM_INTERRUPT, &interrupt) >= 0 || errno == EEXIST;
}

} // namespace wherry::vmm::mshvsim
