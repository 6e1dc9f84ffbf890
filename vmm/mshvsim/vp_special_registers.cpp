// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/vp_registers.hpp"

#include <array>
#include <cstring>

/// Events, x87 and SSE, MSRs and Hyper-V's own registers of VpRegisters.
namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;
namespace status = mshv::abi::status;
namespace interruption = mshv::abi::pending_interruption;
namespace pending_event = mshv::abi::pending_event;
using Value = mshv::abi::RegisterValue;

namespace {

struct MsrName {
    std::uint32_t name, msr;
};
constexpr MsrName msr_names[] = {
    {name_of::tsc, 0x10},
    {name_of::kernel_gs_base, 0xc0000102},
    {name_of::pat, 0x277},
    {name_of::sysenter_cs, 0x174},
    {name_of::sysenter_esp, 0x175},
    {name_of::sysenter_eip, 0x176},
    {name_of::star, 0xc0000081},
    {name_of::lstar, 0xc0000082},
    {name_of::cstar, 0xc0000083},
    {name_of::sfmask, 0xc0000084},
    {name_of::mtrr_capabilities, 0xfe},
    {name_of::mtrr_default_type, 0x2ff},
    {name_of::mtrr_fix64k_00000, 0x250},
    {name_of::mtrr_fix16k_80000, 0x258},
    {name_of::mtrr_fix16k_a0000, 0x259},
    {name_of::tsc_aux, 0xc0000103},
    {name_of::bndcfgs, 0xd90},
    {name_of::debug_control, 0x1d9},
    {name_of::spec_control, 0x48},
    {name_of::prediction_command, 0x49},
    {name_of::virtual_spec_control, 0xc001011f},
    {name_of::u_xss, 0xda0},
    {name_of::u_cet, 0x6a0},
    {name_of::s_cet, 0x6a2},
    {name_of::pl0_ssp, 0x6a4},
    {name_of::pl1_ssp, 0x6a5},
    {name_of::pl2_ssp, 0x6a6},
    {name_of::pl3_ssp, 0x6a7},
    {name_of::interrupt_ssp_table, 0x6a8},
    {name_of::ssp, 0x7a0},
    {name_of::tsc_adjust, 0x3b},
    {name_of::misc_enable, 0x1a0},
    {name_of::feature_control, 0x3a},
};

/// Of the FXSAVE image that opens an XSAVE area (SDM vol. 1, 10.5.1).
namespace fxsave {
constexpr std::size_t control = 0, status = 2, tag = 4, opcode = 6, rip = 8, rdp = 16;
constexpr std::size_t mxcsr = 24, mxcsr_mask = 28, st0 = 32, xmm0 = 160, xstate_bv = 512;
constexpr std::uint64_t x87_and_sse = 3;
} // namespace fxsave

/// Where a floating point register lies, and how many bytes.
struct Place {
    std::size_t at, size;
};
std::optional<Place> floating_place(std::uint32_t name) {
    if (name >= name_of::xmm0 && name < name_of::xmm0 + 16) {
        return Place{fxsave::xmm0 + 16 * (name - name_of::xmm0), 16};
    }
    if (name >= name_of::mmx0 && name < name_of::mmx0 + 8) {
        return Place{fxsave::st0 + 16 * (name - name_of::mmx0), 10};
    }
    return std::nullopt;
}

} // namespace

std::optional<std::uint32_t> msr_of_register(std::uint32_t name) {
    for (const auto& entry : msr_names) {
        if (entry.name == name) {
            return entry.msr;
        }
    }
    if (name >= name_of::mtrr_physical_base0 && name < name_of::mtrr_physical_base0 + 8) {
        return 0x200 + 2 * (name - name_of::mtrr_physical_base0);
    }
    if (name >= name_of::mtrr_physical_mask0 && name < name_of::mtrr_physical_mask0 + 8) {
        return 0x201 + 2 * (name - name_of::mtrr_physical_mask0);
    }
    if (name >= name_of::mtrr_fix4k_c0000 && name <= name_of::mtrr_fix4k_f8000) {
        return 0x268 + (name - name_of::mtrr_fix4k_c0000);
    }
    return std::nullopt;
}

std::optional<std::uint16_t> VpRegisters::set_msr(std::uint32_t name, std::uint64_t value) {
    const auto msr = msr_of_register(name);
    if (!msr) {
        return std::nullopt;
    }
    // Zero, and what it holds already, suit a register that this engine does not have.
    if (vcpu_.set_msr(*msr, value) || value == vcpu_.msr(*msr).value_or(0)) {
        return status::success;
    }
    return status::invalid_register_value;
}

std::uint64_t pending_interruption_of(const PendingEvents& events) {
    const auto packed = [](std::uint64_t type, std::uint64_t vector) {
        return interruption::pending | (type << interruption::type_shift) |
               (vector << interruption::vector_shift);
    };
    if (events.exception.injected) {
        const std::uint64_t code = std::uint64_t{events.exception.error_code}
                                   << interruption::error_code_shift;
        return packed(interruption::type_exception, events.exception.vector) |
               (events.exception.has_error_code ? interruption::deliver_error_code | code : 0);
    }
    if (events.nmi.injected || events.nmi.pending) {
        return packed(interruption::type_nmi, 2);
    }
    if (events.interrupt.injected) {
        const auto type = events.interrupt.soft ? interruption::type_software_interrupt
                                                : interruption::type_interrupt;
        return packed(type, events.interrupt.vector);
    }
    return 0;
}

std::uint64_t interrupt_state_of(const PendingEvents& events) {
    return (events.interrupt.shadow != 0 ? mshv::abi::interrupt_state::shadow : 0) |
           (events.nmi.masked ? mshv::abi::interrupt_state::nmi_masked : 0);
}

std::optional<Value> VpRegisters::get_event(std::uint32_t name) {
    switch (name) {
    case name_of::explicit_suspend:
        return Value{.low = explicit_suspend ? 1U : 0U};
    case name_of::intercept_suspend:
        return Value{.low = intercept_suspend ? 1U : 0U};
    case name_of::internal_activity: {
        const RunState state = shadow_.run_state();
        const bool waits = state == RunState::uninitialized || state == RunState::init_received;
        return Value{
            .low = (waits ? mshv::abi::internal_activity::startup_suspend : 0) |
                   (state == RunState::halted ? mshv::abi::internal_activity::halt_suspend : 0)};
    }
    case name_of::pending_interruption:
        return Value{.low = pending_interruption_of(shadow_.events())};
    case name_of::interrupt_state:
        return Value{.low = interrupt_state_of(shadow_.events())};
    case name_of::pending_event0: {
        const auto& exception = shadow_.events().exception;
        if (!exception.pending) {
            return Value{};
        }
        const std::uint64_t vector = std::uint64_t{exception.vector} << pending_event::vector_shift;
        const std::uint64_t code = std::uint64_t{exception.error_code}
                                   << pending_event::error_code_shift;
        return Value{
            .low = pending_event::pending | vector |
                   (exception.has_error_code ? pending_event::deliver_error_code | code : 0),
            .high = exception.has_payload ? exception.payload : 0};
    }
    default:
        return std::nullopt;
    }
}

namespace {

std::uint16_t set_interruption(PendingEvents& events, std::uint64_t value) {
    const std::uint64_t type = value >> interruption::type_shift & 7U;
    const auto vector = static_cast<std::uint8_t>(value >> interruption::vector_shift & 0xffU);
    events.exception.injected = events.interrupt.injected = false;
    events.nmi.injected = events.nmi.pending = false;
    if ((value & interruption::pending) == 0) {
        return status::success;
    }
    switch (type) {
    case interruption::type_interrupt:
    case interruption::type_software_interrupt:
        events.interrupt.injected = true;
        events.interrupt.soft = type == interruption::type_software_interrupt;
        events.interrupt.vector = vector;
        return status::success;
    case interruption::type_nmi:
        events.nmi.injected = true;
        return status::success;
    case interruption::type_exception:
    case interruption::type_privileged_software_exception:
    case interruption::type_software_exception:
        events.exception = {
            .vector = vector,
            .injected = true,
            .has_error_code = (value & interruption::deliver_error_code) != 0,
            .error_code = static_cast<std::uint32_t>(value >> interruption::error_code_shift)};
        return status::success;
    default:
        return status::invalid_register_value;
    }
}

void set_pending_event(PendingEvents& events, const Value& value) {
    events.exception = {};
    if ((value.low & pending_event::pending) == 0) {
        return;
    }
    constexpr std::uint8_t page_fault = 14;
    events.exception.pending = true;
    events.exception.vector =
        static_cast<std::uint8_t>(value.low >> pending_event::vector_shift & 0xffU);
    events.exception.has_error_code = (value.low & pending_event::deliver_error_code) != 0;
    events.exception.error_code =
        static_cast<std::uint32_t>(value.low >> pending_event::error_code_shift);
    events.exception.has_payload = events.exception.vector == page_fault;
    events.exception.payload = value.high;
}

} // namespace

std::uint16_t VpRegisters::set_run_state(std::uint64_t value) {
    namespace activity = mshv::abi::internal_activity;
    const auto wanted = (value & activity::startup_suspend) != 0 ? RunState::uninitialized
                        : (value & activity::halt_suspend) != 0  ? RunState::halted
                                                                 : RunState::runnable;
    if (!vcpu_.may_hold(wanted)) {
        return status::invalid_register_value;
    }
    shadow_.change_run_state() = wanted;
    return status::success;
}

/// A register that is part of PendingEvents.
std::uint16_t VpRegisters::set_pending(std::uint32_t name, const Value& value) {
    PendingEvents wanted = shadow_.events();
    if (name == name_of::pending_interruption) {
        if (const auto answer = set_interruption(wanted, value.low); answer != status::success) {
            return answer;
        }
    } else if (name == name_of::interrupt_state) {
        constexpr std::uint8_t both = 3; // MOV SS and STI are not told apart
        const bool has_shadow = (value.low & mshv::abi::interrupt_state::shadow) != 0;
        if (has_shadow != (wanted.interrupt.shadow != 0)) {
            wanted.interrupt.shadow = has_shadow ? both : 0;
        }
        wanted.nmi.masked = (value.low & mshv::abi::interrupt_state::nmi_masked) != 0;
    } else {
        set_pending_event(wanted, value);
    }
    if (!vcpu_.may_hold(wanted)) {
        return status::invalid_register_value;
    }
    shadow_.change_events() = wanted;
    return status::success;
}

std::optional<std::uint16_t> VpRegisters::set_event(std::uint32_t name, const Value& value) {
    switch (name) {
    case name_of::explicit_suspend:
        explicit_suspend = (value.low & 1U) != 0;
        return status::success;
    case name_of::intercept_suspend:
        intercept_suspend = (value.low & 1U) != 0;
        return status::success;
    case name_of::internal_activity:
        return set_run_state(value.low);
    case name_of::pending_interruption:
    case name_of::interrupt_state:
    case name_of::pending_event0:
        return set_pending(name, value);
    case name_of::deliverability_notifications: // sheet 8.1: only 0 is known to be taken
        return value.low == 0 ? status::success : status::invalid_parameter;
    default:
        return std::nullopt;
    }
}

std::optional<Value> VpRegisters::get_floating(std::uint32_t name) {
    if (name == name_of::xfem) {
        return Value{.low = vcpu_.xcr0()};
    }
    if (name < name_of::xmm0 || name > name_of::xmm_control_status) {
        return std::nullopt;
    }
    const auto area = vcpu_.xsave();
    const auto take = [&area](auto& to, std::size_t at) {
        std::memcpy(&to, area.data() + at, sizeof(to));
    };
    Value value;
    if (const auto place = floating_place(name)) {
        std::memcpy(&value, area.data() + place->at, place->size);
        return value;
    }
    if (name == name_of::fp_control_status) {
        mshv::abi::FpControlStatusValue fields;
        take(fields.control, fxsave::control);
        take(fields.status, fxsave::status);
        take(fields.tag, fxsave::tag);
        take(fields.last_opcode, fxsave::opcode);
        take(fields.last_rip, fxsave::rip);
        return mshv::abi::value_of(fields);
    }
    mshv::abi::XmmControlStatusValue fields;
    take(fields.last_rdp, fxsave::rdp);
    take(fields.mxcsr, fxsave::mxcsr);
    take(fields.mxcsr_mask, fxsave::mxcsr_mask);
    return mshv::abi::value_of(fields);
}

std::optional<std::uint16_t> VpRegisters::set_floating(std::uint32_t name, const Value& value) {
    if (name == name_of::xfem) {
        return vcpu_.xcr0() == value.low || vcpu_.set_xcr0(value.low)
                   ? status::success
                   : status::invalid_register_value;
    }
    if (name < name_of::xmm0 || name > name_of::xmm_control_status) {
        return std::nullopt;
    }
    auto area = vcpu_.xsave();
    const auto put = [&area](const auto& from, std::size_t at) {
        std::memcpy(area.data() + at, &from, sizeof(from));
    };
    if (const auto place = floating_place(name)) {
        std::memcpy(area.data() + place->at, &value, place->size);
    } else if (name == name_of::fp_control_status) {
        const auto fields = mshv::abi::read_as<mshv::abi::FpControlStatusValue>(value);
        put(fields.control, fxsave::control);
        put(fields.status, fxsave::status);
        put(fields.tag, fxsave::tag);
        put(fields.last_opcode, fxsave::opcode);
        put(fields.last_rip, fxsave::rip);
    } else { // the mask is the processor's, whatever is written
        const auto fields = mshv::abi::read_as<mshv::abi::XmmControlStatusValue>(value);
        put(fields.last_rdp, fxsave::rdp);
        put(fields.mxcsr, fxsave::mxcsr);
    }
    std::uint64_t in_use = 0;
    std::memcpy(&in_use, area.data() + fxsave::xstate_bv, sizeof(in_use));
    put(in_use | fxsave::x87_and_sse, fxsave::xstate_bv);
    return vcpu_.set_xsave(area) ? status::success : status::invalid_register_value;
}

std::optional<Value> VpRegisters::get_synthetic(std::uint32_t name) {
    constexpr std::uint64_t apic_hz = 1'000'000'000; // KVM's LAPIC timer counts nanoseconds
    constexpr std::uint64_t apic_version = 0x50014;
    const bool has_apic = hypervisor_.engine->capabilities().has_lapic;
    if (!has_apic && (name == name_of::apic_id || name == name_of::apic_version ||
                      name == name_of::initial_apic_id || name == name_of::apic_frequency)) {
        return std::nullopt;
    }
    switch (name) {
    case name_of::vp_index:
    case name_of::initial_apic_id:
    case name_of::apic_id:
        return Value{.low = index_};
    case name_of::apic_version:
        return Value{.low = apic_version};
    case name_of::time_reference_count:
        return Value{.low = hypervisor_.properties.clock().now()};
    case name_of::tsc_frequency:
        return Value{.low = hypervisor_.engine->capabilities().tsc_frequency_khz * 1000};
    case name_of::apic_frequency:
        return Value{.low = apic_hz};
    case name_of::vp_runtime:
        return Value{.low = runtime};
    case name_of::hypervisor_version:
        return Value{};
    case name_of::features:
    case name_of::privileges_and_features:
        return Value{.low = hypervisor_.properties.synthetic_features()};
    default:
        break;
    }
    for (const auto& value : {hypervisor_.pages.get(name), synic_.get(name), timers_.get(name)}) {
        if (value) {
            return Value{.low = *value};
        }
    }
    const auto found = stored_.find(name);
    return found != stored_.end() ? std::optional{Value{.low = found->second}} : std::nullopt;
}

std::optional<std::uint16_t>
VpRegisters::write_synthetic(std::uint32_t name, std::uint64_t value, Writer writer) {
    if (hypervisor_.pages.set(name, value, writer)) {
        return status::success;
    }
    if (const auto answer = synic_.set(name, value, writer)) {
        return answer;
    }
    if (const auto answer = timers_.set(name, value, writer)) {
        return answer;
    }
    const auto found = stored_.find(name);
    if (found != stored_.end()) {
        found->second = value;
        return status::success;
    }
    const auto now = get_synthetic(name);
    if (!now) {
        return std::nullopt;
    }
    return now->low == value ? status::success : status::invalid_parameter;
}

} // namespace wherry::vmm::mshvsim
