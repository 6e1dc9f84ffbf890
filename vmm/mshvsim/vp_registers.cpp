// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/vp_registers.hpp"

#include "vmm/general_registers.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"
#include "vmm/mshvsim/control_values.hpp"

#include <array>
#include <utility>

namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;
namespace status = mshv::abi::status;
using Value = mshv::abi::RegisterValue;

namespace {

constexpr std::array<Segment SystemRegisters::*, 8> segment_order{
    &SystemRegisters::es,
    &SystemRegisters::cs,
    &SystemRegisters::ss,
    &SystemRegisters::ds,
    &SystemRegisters::fs,
    &SystemRegisters::gs,
    &SystemRegisters::ldt,
    &SystemRegisters::tr};

constexpr std::uint32_t unusable = 1U << 16U;
constexpr std::uint32_t present = 1U << 7U;

Segment segment_from(const mshv::abi::SegmentValue& value) {
    const bool is_present = (value.attributes & present) != 0;
    return {
        .base = value.base,
        .limit = value.limit,
        .selector = value.selector,
        .attributes = value.attributes | (is_present ? 0U : unusable)};
}

std::uint64_t SystemRegisters::* control_of(std::uint32_t name) {
    switch (name) {
    case name_of::cr0:
    case name_of::intermediate_cr0:
        return &SystemRegisters::cr0;
    case name_of::cr2:
        return &SystemRegisters::cr2;
    case name_of::cr3:
    case name_of::intermediate_cr3:
        return &SystemRegisters::cr3;
    case name_of::cr4:
    case name_of::intermediate_cr4:
        return &SystemRegisters::cr4;
    case name_of::cr8:
    case name_of::intermediate_cr8:
        return &SystemRegisters::cr8;
    case name_of::efer:
        return &SystemRegisters::efer;
    case name_of::apic_base:
        return &SystemRegisters::apic_base;
    default:
        return nullptr;
    }
}

} // namespace

mshv::abi::SegmentValue segment_value(const Segment& from) {
    return {
        .base = from.base,
        .limit = from.limit,
        .selector = from.selector,
        .attributes = static_cast<std::uint16_t>(from.attributes)};
}

VpRegisters::VpRegisters(Hypervisor& hypervisor, EngineVcpu& vcpu, std::uint32_t index)
    : hypervisor_{hypervisor},
      vcpu_{vcpu},
      index_{index},
      shadow_{vcpu},
      synic_{hypervisor, index},
      timers_{hypervisor, index, synic_} {
    for (const std::uint32_t name :
         {name_of::sirbp,
          name_of::vp_assist_page,
          name_of::deliverability_notifications,
          name_of::pending_event1,
          name_of::pending_debug_exception,
          name_of::emulation_hints,
          name_of::dispatch_suspend,
          name_of::guest_idle,
          name_of::synthetic_eoi,
          name_of::synthetic_icr,
          name_of::synthetic_tpr,
          name_of::root_signal_count,
          name_of::stimer_unhalted_config,
          name_of::stimer_unhalted_count}) {
        stored_[name] = 0;
    }
    for (std::uint32_t name = name_of::crash_p0; name <= name_of::crash_control; ++name) {
        stored_[name] = 0;
    }
}

std::optional<Value> VpRegisters::get(std::uint32_t name) {
    for (const auto part :
         {&VpRegisters::get_cpu,
          &VpRegisters::get_event,
          &VpRegisters::get_floating,
          &VpRegisters::get_synthetic}) {
        if (const auto value = (this->*part)(name)) {
            return value;
        }
    }
    if (const auto msr = msr_of_register(name)) {
        return Value{.low = vcpu_.msr(*msr).value_or(0)};
    }
    return std::nullopt;
}

std::uint16_t VpRegisters::set(std::uint32_t name, const Value& value) {
    for (const auto part :
         {&VpRegisters::set_cpu,
          &VpRegisters::set_control,
          &VpRegisters::set_event,
          &VpRegisters::set_floating}) {
        if (const auto answer = (this->*part)(name, value)) {
            return *answer;
        }
    }
    if (const auto answer = write_synthetic(name, value.low, Writer::root)) {
        return *answer;
    }
    return set_msr(name, value.low).value_or(status::invalid_parameter);
}

std::optional<Value> VpRegisters::get_cpu(std::uint32_t name) {
    if (name >= name_of::rax && name <= name_of::r15) {
        return Value{.low = general(shadow_.registers(), name - name_of::rax)};
    }
    if (name == name_of::rip) {
        return Value{.low = shadow_.registers().rip};
    }
    if (name == name_of::rflags) {
        return Value{.low = shadow_.registers().rflags};
    }
    if (const auto control = control_of(name)) {
        return Value{.low = shadow_.system().*control};
    }
    if (name >= name_of::es && name <= name_of::tr) {
        const auto segment = segment_order[name - name_of::es];
        return mshv::abi::value_of(segment_value(shadow_.system().*segment));
    }
    if (name == name_of::idtr || name == name_of::gdtr) {
        const auto& table = name == name_of::idtr ? shadow_.system().idt : shadow_.system().gdt;
        return mshv::abi::value_of(mshv::abi::TableValue{.limit = table.limit, .base = table.base});
    }
    if (name >= name_of::dr0 && name <= name_of::dr3) {
        return Value{.low = shadow_.debug().db[name - name_of::dr0]};
    }
    if (name == name_of::dr6 || name == name_of::dr7) {
        return Value{.low = name == name_of::dr6 ? shadow_.debug().dr6 : shadow_.debug().dr7};
    }
    return std::nullopt;
}

std::optional<std::uint16_t> VpRegisters::set_cpu(std::uint32_t name, const Value& value) {
    if (name >= name_of::rax && name <= name_of::r15) {
        general(shadow_.change_registers(), name - name_of::rax) = value.low;
    } else if (name == name_of::rip) {
        shadow_.change_registers().rip = value.low;
    } else if (name == name_of::rflags) {
        shadow_.change_registers().rflags = value.low | 2U;
    } else if (name >= name_of::es && name <= name_of::tr) {
        SystemRegisters wanted = shadow_.system();
        wanted.*segment_order[name - name_of::es] =
            segment_from(mshv::abi::read_as<mshv::abi::SegmentValue>(value));
        if (!vcpu_.may_hold(wanted)) {
            return status::invalid_register_value;
        }
        shadow_.change_system() = wanted;
    } else if (name == name_of::idtr || name == name_of::gdtr) {
        const auto table = mshv::abi::read_as<mshv::abi::TableValue>(value);
        auto& system = shadow_.change_system();
        (name == name_of::idtr ? system.idt : system.gdt) = {table.base, table.limit};
    } else if (name >= name_of::dr0 && name <= name_of::dr3) {
        shadow_.change_debug().db[name - name_of::dr0] = value.low;
    } else if (name == name_of::dr6 || name == name_of::dr7) {
        DebugRegisters wanted = shadow_.debug();
        (name == name_of::dr6 ? wanted.dr6 : wanted.dr7) = value.low;
        if (value.low >> 32U != 0 || !vcpu_.may_hold(wanted)) {
            return status::invalid_register_value;
        }
        shadow_.change_debug() = wanted;
    } else {
        return std::nullopt;
    }
    return status::success;
}

std::optional<std::uint16_t> VpRegisters::set_control(std::uint32_t name, const Value& value) {
    const auto control = control_of(name);
    if (control == nullptr) {
        return std::nullopt;
    }
    SystemRegisters wanted = shadow_.system();
    wanted.*control = value.low;
    if (!is_possible(name, value.low, hypervisor_.cpuid.of_vp(index_)) || !vcpu_.may_hold(wanted)) {
        return status::invalid_register_value;
    }
    // At once: the LAPIC's state, which is not shadowed, is checked against it.
    if (control == &SystemRegisters::apic_base && !vcpu_.set_apic_base(value.low)) {
        return status::invalid_register_value;
    }
    if (control == &SystemRegisters::cr3) {
        hypervisor_.memory.request_scan();
    }
    shadow_.change_system().*control = value.low;
    return status::success;
}

bool VpRegisters::is_part_of_mode(std::uint32_t name) noexcept {
    return control_of(name) != nullptr || (name >= name_of::es && name <= name_of::tr);
}

bool VpRegisters::is_mode_possible() {
    const auto& system = shadow_.system();
    return is_consistent(system) && vcpu_.can_be_in(system);
}

void VpRegisters::fill_general(mshv::abi::RegisterPage& page) {
    const auto& registers = shadow_.registers();
    for (unsigned i = 0; i < page.general.size(); ++i) {
        page.general[i] = general(registers, i);
    }
    page.rip = registers.rip;
    page.rflags = registers.rflags;
}

void VpRegisters::fill(mshv::abi::RegisterPage& page) {
    const auto& system = shadow_.system();
    page.version = 1;
    page.is_valid = 1;
    page.dirty = 0;
    fill_general(page);
    for (std::uint32_t i = 0; i < page.xmm.size(); ++i) {
        page.xmm[i] = get_floating(name_of::xmm0 + i).value_or(Value{});
    }
    page.es = segment_value(system.es);
    page.cs = segment_value(system.cs);
    page.ss = segment_value(system.ss);
    page.ds = segment_value(system.ds);
    page.fs = segment_value(system.fs);
    page.gs = segment_value(system.gs);
    page.cr0 = system.cr0;
    page.cr3 = system.cr3;
    page.cr4 = system.cr4;
    page.cr8 = system.cr8;
    page.efer = system.efer;
    page.dr7 = shadow_.debug().dr7;
    page.pending_interruption = pending_interruption_of(shadow_.events());
    page.interrupt_state = interrupt_state_of(shadow_.events());
    page.xfem = vcpu_.xcr0();
}

void VpRegisters::refresh(mshv::abi::RegisterPage& page, Written written) {
    namespace dirty = mshv::abi::register_page_dirty;
    const mshv::abi::RegisterPage parked = page;
    if (written == Written::general_only) {
        fill_general(page);
    } else {
        fill(page);
    }
    page.dirty = parked.dirty;
    if ((parked.dirty & dirty::general) != 0) {
        page.general = parked.general;
    }
    if ((parked.dirty & dirty::rip) != 0) {
        page.rip = parked.rip;
    }
    if ((parked.dirty & dirty::rflags) != 0) {
        page.rflags = parked.rflags;
    }
    if ((parked.dirty & dirty::xmm) != 0) {
        page.xmm = parked.xmm;
    }
    if ((parked.dirty & dirty::segments) != 0) {
        page.es = parked.es;
        page.cs = parked.cs;
        page.ss = parked.ss;
        page.ds = parked.ds;
        page.fs = parked.fs;
        page.gs = parked.gs;
    }
}

void VpRegisters::consume(mshv::abi::RegisterPage& page) {
    namespace dirty = mshv::abi::register_page_dirty;
    const std::uint32_t marks = std::exchange(page.dirty, 0);
    if ((marks & (dirty::general | dirty::rip | dirty::rflags)) != 0) {
        auto& registers = shadow_.change_registers();
        for (unsigned i = 0; (marks & dirty::general) != 0 && i < page.general.size(); ++i) {
            general(registers, i) = page.general[i];
        }
        registers.rip = (marks & dirty::rip) != 0 ? page.rip : registers.rip;
        registers.rflags = (marks & dirty::rflags) != 0 ? page.rflags | 2U : registers.rflags;
    }
    if ((marks & dirty::segments) != 0) {
        auto& system = shadow_.change_system();
        system.es = segment_from(page.es);
        system.cs = segment_from(page.cs);
        system.ss = segment_from(page.ss);
        system.ds = segment_from(page.ds);
        system.fs = segment_from(page.fs);
        system.gs = segment_from(page.gs);
    }
    for (std::uint32_t i = 0; (marks & dirty::xmm) != 0 && i < page.xmm.size(); ++i) {
        set_floating(name_of::xmm0 + i, page.xmm[i]);
    }
}

} // namespace wherry::vmm::mshvsim
