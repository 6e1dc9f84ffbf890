// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/messages.hpp"
#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshvsim/trace.hpp"

#include <array>
#include <span>
#include <string_view>

#include <fmt/format.h>

namespace wherry::vmm::mshvsim {

namespace hypercalls = mshv::abi::hypercalls;
namespace messages = mshv::abi::messages;
namespace property = mshv::abi::properties;
namespace name = mshv::abi::registers;

namespace {

struct Named {
    std::uint32_t code;
    std::string_view text;
};

std::string find(std::span<const Named> names, std::uint32_t code) {
    for (const auto& one : names) {
        if (one.code == code) {
            return std::string{one.text};
        }
    }
    return fmt::format("{:#x}", code);
}

constexpr Named hypercall_names[] = {
    {hypercalls::get_partition_property, "GET_PARTITION_PROPERTY"},
    {hypercalls::set_partition_property, "SET_PARTITION_PROPERTY"},
    {hypercalls::install_intercept, "INSTALL_INTERCEPT"},
    {hypercalls::get_vp_registers, "GET_VP_REGISTERS"},
    {hypercalls::set_vp_registers, "SET_VP_REGISTERS"},
    {hypercalls::translate_virtual_address, "TRANSLATE_VIRTUAL_ADDRESS"},
    {hypercalls::read_gpa, "READ_GPA"},
    {hypercalls::write_gpa, "WRITE_GPA"},
    {hypercalls::clear_virtual_interrupt, "CLEAR_VIRTUAL_INTERRUPT"},
    {hypercalls::register_intercept_result, "REGISTER_INTERCEPT_RESULT"},
    {hypercalls::assert_virtual_interrupt, "ASSERT_VIRTUAL_INTERRUPT"},
    {hypercalls::signal_event_direct, "SIGNAL_EVENT_DIRECT"},
    {hypercalls::post_message_direct, "POST_MESSAGE_DIRECT"},
    {hypercalls::get_gpa_pages_access_states, "GET_GPA_PAGES_ACCESS_STATES"},
    {hypercalls::get_vp_cpuid_values, "GET_VP_CPUID_VALUES"},
    {hypercalls::get_partition_property_ex, "GET_PARTITION_PROPERTY_EX"},
};

constexpr Named property_names[] = {
    {property::privilege_flags, "PRIVILEGE_FLAGS"},
    {property::synthetic_processor_features, "SYNTHETIC_PROC_FEATURES"},
    {property::suspend, "SUSPEND"},
    {property::time_freeze, "TIME_FREEZE"},
    {property::reference_time, "REFERENCE_TIME"},
    {property::processors_per_socket, "PROCESSORS_PER_SOCKET"},
    {property::gpa_page_access_tracking, "GPA_PAGE_ACCESS_TRACKING"},
    {property::unimplemented_msr_action, "UNIMPLEMENTED_MSR_ACTION"},
    {property::processor_vendor, "PROCESSOR_VENDOR"},
    {property::processor_xsave_features, "PROCESSOR_XSAVE_FEATURES"},
    {property::compatibility_version, "COMPATIBILITY_VERSION"},
    {property::physical_address_width, "PHYSICAL_ADDRESS_WIDTH"},
    {property::xsave_states, "XSAVE_STATES"},
    {property::max_xsave_data_size, "MAX_XSAVE_DATA_SIZE"},
    {property::processor_clock_frequency, "PROCESSOR_CLOCK_FREQUENCY"},
    {property::processor_features0, "PROCESSOR_FEATURES0"},
    {property::processor_features1, "PROCESSOR_FEATURES1"},
    {property::guest_os_id, "GUEST_OS_ID"},
    {property::ex::vmm_capabilities, "VMM_CAPABILITIES"},
    {property::ex::assignable_synthetic_processor_features, "ASSIGNABLE_SYNTHETIC_PROC_FEATURES"},
};

constexpr Named message_names[] = {
    {messages::none, "NONE"},
    {messages::unmapped_gpa, "UNMAPPED_GPA"},
    {messages::gpa_intercept, "GPA_INTERCEPT"},
    {messages::invalid_vp_register_value, "INVALID_VP_REGISTER_VALUE"},
    {messages::unrecoverable_exception, "UNRECOVERABLE_EXCEPTION"},
    {messages::unsupported_feature, "UNSUPPORTED_FEATURE"},
    {messages::io_port, "X64_IO_PORT_INTERCEPT"},
    {messages::msr, "X64_MSR_INTERCEPT"},
    {messages::cpuid, "X64_CPUID_INTERCEPT"},
    {messages::exception, "X64_EXCEPTION_INTERCEPT"},
    {messages::apic_eoi, "X64_APIC_EOI"},
    {messages::halt, "X64_HALT"},
    {messages::interruption_deliverable, "X64_INTERRUPTION_DELIVERABLE"},
};

constexpr Named register_names[] = {
    {name::explicit_suspend, "EXPLICIT_SUSPEND"},
    {name::intercept_suspend, "INTERCEPT_SUSPEND"},
    {name::internal_activity, "INTERNAL_ACTIVITY_STATE"},
    {name::pending_interruption, "PENDING_INTERRUPTION"},
    {name::interrupt_state, "INTERRUPT_STATE"},
    {name::pending_event0, "PENDING_EVENT0"},
    {name::pending_event1, "PENDING_EVENT1"},
    {name::deliverability_notifications, "DELIVERABILITY_NOTIFICATIONS"},
    {name::rax, "RAX"},
    {name::rcx, "RCX"},
    {name::rdx, "RDX"},
    {name::rbx, "RBX"},
    {name::rsp, "RSP"},
    {name::rbp, "RBP"},
    {name::rsi, "RSI"},
    {name::rdi, "RDI"},
    {name::r8, "R8"},
    {name::r9, "R9"},
    {name::r10, "R10"},
    {name::r11, "R11"},
    {name::r12, "R12"},
    {name::r13, "R13"},
    {name::r14, "R14"},
    {name::r15, "R15"},
    {name::rip, "RIP"},
    {name::rflags, "RFLAGS"},
    {name::fp_control_status, "FP_CONTROL_STATUS"},
    {name::xmm_control_status, "XMM_CONTROL_STATUS"},
    {name::cr0, "CR0"},
    {name::cr2, "CR2"},
    {name::cr3, "CR3"},
    {name::cr4, "CR4"},
    {name::cr8, "CR8"},
    {name::xfem, "XFEM"},
    {name::intermediate_cr0, "INTERMEDIATE_CR0"},
    {name::intermediate_cr3, "INTERMEDIATE_CR3"},
    {name::intermediate_cr4, "INTERMEDIATE_CR4"},
    {name::intermediate_cr8, "INTERMEDIATE_CR8"},
    {name::dr0, "DR0"},
    {name::dr1, "DR1"},
    {name::dr2, "DR2"},
    {name::dr3, "DR3"},
    {name::dr6, "DR6"},
    {name::dr7, "DR7"},
    {name::es, "ES"},
    {name::cs, "CS"},
    {name::ss, "SS"},
    {name::ds, "DS"},
    {name::fs, "FS"},
    {name::gs, "GS"},
    {name::ldtr, "LDTR"},
    {name::tr, "TR"},
    {name::idtr, "IDTR"},
    {name::gdtr, "GDTR"},
    {name::tsc, "TSC"},
    {name::efer, "EFER"},
    {name::kernel_gs_base, "KERNEL_GS_BASE"},
    {name::apic_base, "APIC_BASE"},
    {name::pat, "PAT"},
    {name::sysenter_cs, "SYSENTER_CS"},
    {name::sysenter_eip, "SYSENTER_EIP"},
    {name::sysenter_esp, "SYSENTER_ESP"},
    {name::star, "STAR"},
    {name::lstar, "LSTAR"},
    {name::cstar, "CSTAR"},
    {name::sfmask, "SFMASK"},
    {name::mtrr_capabilities, "MTRR_CAP"},
    {name::mtrr_default_type, "MTRR_DEF_TYPE"},
    {name::tsc_aux, "TSC_AUX"},
    {name::debug_control, "DEBUG_CTL"},
    {name::spec_control, "SPEC_CTRL"},
    {name::u_xss, "U_XSS"},
    {name::tsc_adjust, "TSC_ADJUST"},
    {name::misc_enable, "MISC_ENABLE"},
    {name::vp_runtime, "VP_RUNTIME"},
    {name::hypercall, "HYPERCALL"},
    {name::guest_os_id, "GUEST_OS_ID"},
    {name::vp_index, "VP_INDEX"},
    {name::time_reference_count, "TIME_REF_COUNT"},
    {name::vp_assist_page, "VP_ASSIST_PAGE"},
    {name::reference_tsc, "REFERENCE_TSC"},
    {name::scontrol, "SCONTROL"},
    {name::sversion, "SVERSION"},
    {name::siefp, "SIEFP"},
    {name::simp, "SIMP"},
    {name::eom, "EOM"},
};

struct NumberedRange {
    std::uint32_t first, count;
    std::string_view text;
};
constexpr NumberedRange ranges[] = {
    {name::xmm0, 16, "XMM"},
    {name::mmx0, 8, "MMX"},
    {name::crash_p0, 6, "CRASH_P"},
    {name::mtrr_physical_base0, 16, "MTRR_PHYS_BASE"},
    {name::mtrr_physical_mask0, 16, "MTRR_PHYS_MASK"},
    {name::mtrr_fix64k_00000, 11, "MTRR_FIX"},
    {name::sint0, 16, "SINT"},
    {name::stimer0_config, 8, "STIMER"},
};

} // namespace

std::string name_of_hypercall(std::uint16_t code) {
    return find(hypercall_names, code);
}
std::string name_of_property(std::uint32_t code) {
    return find(property_names, code);
}
std::string name_of_message(std::uint32_t type) {
    return find(message_names, type);
}
std::string name_of_register(std::uint32_t code) {
    for (const auto& range : ranges) {
        if (code - range.first < range.count) {
            return fmt::format("{}{}", range.text, code - range.first);
        }
    }
    return find(register_names, code);
}

} // namespace wherry::vmm::mshvsim
